"""Dispatch: whatever kills, and whatever else dies with it, only the rows that kill are rejected, in few deaths."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chunk import Chunk, Span
from pipeline.config import load_config
from pipeline.corpus.chunk_reader import ChunkReader
from pipeline.corpus.reader import shard_at
from pipeline.corpus.shards import open_corpus
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.dataset.volume import Attempt, AttemptFiles, deaths_of
from pipeline.driver.cut import halves
from pipeline.driver.dispatch import GIVE_UP_AFTER, dispatch, embed_isolated
from pipeline.driver.run import run
from pipeline.engines.hashing import HashingEmbedder
from pipeline.engines.made_by import MadeBy
from pipeline.engines.thread import Embedded, EngineThread
from pipeline.errors import BrokenEngineError, EngineError
from pipeline.vectors import to_unit_float16
from pipeline.worker.attempts import attempt
from pipeline.worker.embed import Failure, Job, embed_or_fail
from pipeline.worker.memory import Memory
from tests.support import REPOSITORY, one_span, write_jsonl, write_parquet

CONFIG = load_config(REPOSITORY / "configs/hashing.toml")


def job_of(folder: Path) -> Job:
    corpus = open_corpus(folder, [shard_at(folder, path.name) for path in sorted(folder.iterdir())], CONFIG.corpus)
    return Job(root=corpus.root, columns=corpus.columns, config=CONFIG)


def chunk_of(job: Job, name: str, start: int, stop: int, *bytes_of: int, last: bool = False) -> Chunk:
    span = Span(row_start=start, row_stop=stop, **dict(zip(("byte_start", "byte_stop"), bytes_of, strict=False)))
    return one_span(shard_at(job.root, name), span, "f", last=last)


def row_start(chunk: Chunk) -> int:
    return chunk.spans[0].span.row_start


def rows_of(chunk: Chunk) -> list[int]:
    return [row for each in chunk.spans for row in range(each.span.row_start, each.span.row_stop)]


@given(
    rows=st.lists(st.text("a\né ", max_size=40), min_size=2, max_size=40),
    newline=st.booleans(),
    suffix=st.sampled_from([".jsonl", ".jsonl.gz", ".parquet"]),
)
@settings(max_examples=30)
def test_halves_hold_the_rows_of_their_chunk(tmp_path: Path, rows: list[str], newline: bool, suffix: str) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    name = f"a{suffix}"
    records = [{"text": text} for text in rows]
    n_bytes = 0
    if suffix == ".parquet":
        write_parquet(tmp_path / name, records)
    else:
        write_jsonl(tmp_path / name, records)
        n_bytes = sum(len(json.dumps(record)) + 1 for record in records)
    if suffix == ".jsonl" and not newline:
        n_bytes -= 1
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    job = job_of(tmp_path)
    whole = chunk_of(job, name, 0, len(rows), 0, n_bytes, last=True)
    found, waiting = [], [replace(whole, ready="vectors")]
    while waiting:
        chunk = waiting.pop(0)
        if chunk.n_rows == 1:
            found.append(chunk)
            continue
        one, other = halves(chunk, job)
        assert one.ready == other.ready == "vectors"
        [first], [second], [of_both] = one.spans, other.spans, chunk.spans
        assert (first.span.row_start, second.span.row_stop) == (of_both.span.row_start, of_both.span.row_stop)
        assert abs(one.n_rows - other.n_rows) <= 1
        assert (first.last, second.last) == (False, of_both.last)
        waiting += [one, other]
    found.sort(key=row_start)
    assert [row_start(chunk) for chunk in found] == list(range(len(rows)))
    with ChunkReader() as reader:
        read = [reader.read(job.root, job.columns, chunk.spans) for chunk in found]
    assert [of_row.text[0] if of_row.text else None for of_row in read] == [t if t.strip() else None for t in rows]


class Died(BaseException):
    """A death that a test outlives."""


@given(
    n_chunks=st.integers(1, 4),
    killers=st.sets(st.integers(0, 39), max_size=3),
    outlives=st.booleans(),
    data=st.data(),
)
@settings(max_examples=15)
def test_only_the_rows_that_kill_are_rejected(
    tmp_path_factory: pytest.TempPathFactory, n_chunks: int, killers: set[int], outlives: bool, data: st.DataObject
) -> None:
    """`outlives`: the driver goes on after a death, as on Modal; else all that is left are the files."""
    folder = tmp_path_factory.mktemp("deaths")
    write_parquet(folder / "in/a.parquet", [{"id": f"{i}", "text": f"text {i}"} for i in range(40)])
    store, n_deaths = Store(root=folder / "out"), 0
    config = load_config(REPOSITORY / "configs/hashing.toml", [f"run.chunk_tokens={80 // n_chunks}"])
    attempts = store.volume.attempts(store.root)

    def embed(chunk: Chunk, deaths: int, job: Job, beside: Chunk | None = None) -> Receipt | Failure:
        nonlocal n_deaths
        attempts.put(chunk, deaths + 1)
        if killers & set(rows_of(chunk)):
            n_deaths += 1
            if beside is not None:  # the other one in flight dies with it
                attempts.put(beside, deaths_of(beside, attempts.read()) + 1)
            if outlives:
                return Failure(chunk=chunk.id, source="", error="died", deaths=deaths + 1)
            raise Died
        attempts.put(chunk, 0)
        with ChunkReader() as reader:
            return embed_or_fail(chunk, job, Fine(), store, reader, Memory())

    class Deadly:
        def __init__(self, job: Job) -> None:
            self.job = job

        def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
            window = list(line)
            for chunk, deaths in window:
                beside = data.draw(st.sampled_from([None, *(chunk for chunk, _ in window)]))
                yield embed(chunk, max(deaths, deaths_of(chunk, attempts.read())), self.job, beside)

        def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
            return embed(chunk, deaths, self.job)

    def fan_out(chunks, job):
        return dispatch(chunks, job, store, Deadly(job))

    for _ in range(100):
        try:
            outcome = run(str(folder / "in"), store, config, fan_out=fan_out)
        except Died:
            continue
        assert outcome.failures == ()
        if not outcome.run.missing_chunks:
            break
    assert outcome.totals["rejected_rows"] == len(killers)
    assert outcome.totals["embedded_rows"] == 40 - len(killers)
    assert n_deaths <= len(killers) * (3 + 2 * math.ceil(math.log2(40)) + 3)
    assert attempts.read() == []


class Fine:
    """An engine for rows that do not kill."""

    ready_at = 1.0
    made_by = MadeBy()

    def embed(self, token_ids, dim):
        return Embedded(
            vectors=to_unit_float16(HashingEmbedder(CONFIG).embed(token_ids or [[0]]), dim)[: len(token_ids)]
        )


class Mortal:
    """A pool where each chunk dies so many times before it is embedded."""

    def __init__(self, job: Job, store: Store, deaths_of_chunk: int) -> None:
        self.job, self.store, self.n = job, store, deaths_of_chunk
        self.at_once: list[int] = []
        self.isolated: list[str] = []
        self.n_taken = 0

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        window = []
        for each in line:
            window.append(each)
            self.n_taken += 1
        self.at_once.append(len(window))
        return (self._embed(*each) for each in window)

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        self.isolated.append(chunk.id)
        self.n_taken += 1
        return self._embed(chunk, deaths)

    def _embed(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        if deaths < self.n:
            self.store.volume.attempts(self.store.root).put(chunk, deaths + 1)
            return Failure(chunk=chunk.id, source=chunk.source, error="died", deaths=deaths + 1)
        with ChunkReader() as reader:
            return embed_or_fail(chunk, self.job, Fine(), self.store, reader, Memory())


def mortal(folder: Path, deaths: int) -> tuple[list[Chunk], Mortal]:
    """Return eight chunks and a pool for them."""
    write_parquet(folder / "in/a.parquet", [{"text": f"text {i}"} for i in range(80)])
    job, store = job_of(folder / "in"), Store(root=folder / "out")
    (folder / "out").mkdir()
    chunks = [chunk_of(job, "a.parquet", start, start + 10) for start in range(0, 80, 10)]
    return chunks, Mortal(job, store, deaths)


@pytest.mark.parametrize(("deaths", "at_once", "n_isolated"), [(0, [8], 0), (1, [8, 8], 0), (2, [8, 8], 8)])
def test_a_chunk_that_dies_joins_the_line_again_and_is_no_failure(
    tmp_path: Path, deaths: int, at_once: list[int], n_isolated: int
) -> None:
    chunks, pool = mortal(tmp_path, deaths)
    outcomes = list(dispatch(chunks, pool.job, pool.store, pool))
    assert {outcome.chunk for outcome in outcomes if isinstance(outcome, Receipt)} == {chunk.id for chunk in chunks}
    assert len(outcomes) == len(chunks)
    assert (pool.at_once, len(pool.isolated)) == (at_once, n_isolated)


def test_a_run_gives_up_when_too_many_fail_before_any_succeeds(tmp_path: Path) -> None:
    """Deaths count: each costs the start of a container."""
    chunks, pool = mortal(tmp_path, 2)
    outcomes = list(dispatch(chunks, pool.job, pool.store, pool, max_failures_at_start=6))
    assert [outcome.chunk for outcome in outcomes] == [chunk.id for chunk in chunks[:6]]
    assert all(isinstance(outcome, Failure) and outcome.error == "died" for outcome in outcomes)
    assert pool.at_once == [8]


def test_a_run_whose_time_is_up_reports_what_died_and_takes_nothing_more(tmp_path: Path) -> None:
    chunks, pool = mortal(tmp_path, 1)
    until = time.time() + 0.5
    [outcome] = dispatch(chunks[:1], pool.job, pool.store, Slow(pool, until), may_go_on=lambda: time.time() < until)
    assert isinstance(outcome, Failure)
    assert list(dispatch(chunks, pool.job, pool.store, pool, may_go_on=lambda: False)) == []
    assert pool.at_once == [1]


@pytest.mark.parametrize("deaths", [0, 1, 2])
def test_a_run_hands_out_as_many_chunks_as_it_may_isolated_ones_among_them(tmp_path: Path, deaths: int) -> None:
    for n_allowed in (0, 1, 7, 8, 9, 17, 20, 99):
        chunks, pool = mortal(tmp_path / str(n_allowed), deaths)
        outcomes = list(dispatch(chunks, pool.job, pool.store, pool, may_go_on=lambda: pool.n_taken < n_allowed))  # noqa: B023
        assert pool.n_taken == min(n_allowed, 8 * (deaths + 1))
        assert {failure.error for failure in outcomes if isinstance(failure, Failure)} <= {"died"}


class Slow:
    """A pool that has its outcomes when the time is up."""

    def __init__(self, pool: Mortal, until: float) -> None:
        self.pool, self.until = pool, until

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        outcomes = list(self.pool.map(line))
        time.sleep(max(0.0, self.until - time.time()))
        return iter(outcomes)

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        pytest.fail("the time is up")


def test_a_rejected_row_leaves_no_shard_open(tmp_path: Path) -> None:
    """A volume with an open file cannot be reloaded."""
    path = write_jsonl(tmp_path / "in/a.jsonl.gz", [{"id": f"{i}", "text": f"text {i}"} for i in range(2)])
    job, attempts, store = job_of(tmp_path / "in"), AttemptFiles(tmp_path / "attempts"), Store(root=tmp_path / "out")
    [first, _] = halves(chunk_of(job, path.name, 0, 2, 0, 2 * 29, last=True), job)
    attempts.put(first, 3)
    [receipt] = embed_isolated([first], job, store, attempts, lambda chunk, deaths: pytest.fail("tried again"))
    assert isinstance(receipt, Receipt)
    assert (receipt.embedded_rows, receipt.rejected_rows) == (0, 1)
    assert path not in [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]


def test_deaths_that_never_stop_reject_no_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in/a.parquet", [{"text": f"text {i}"} for i in range(64)])
    job, attempts, store = job_of(tmp_path / "in"), AttemptFiles(tmp_path / "attempts"), Store(root=tmp_path / "out")
    n_tries = 0

    def embed(chunk: Chunk, deaths: int) -> Receipt | Failure:
        nonlocal n_tries
        n_tries += 1
        attempts.put(chunk, deaths + 1)
        return Failure(chunk=chunk.id, source="", error="died", deaths=deaths + 1)

    found = list(embed_isolated([chunk_of(job, "a.parquet", 0, 64)], job, store, attempts, embed))
    assert n_tries == GIVE_UP_AFTER
    assert all(isinstance(outcome, Failure) for outcome in found)
    assert store.part_sizes() == {}


@pytest.mark.parametrize(
    ("ending", "before", "after"),
    [
        (lambda: None, 0, []),
        (lambda: None, 2, []),
        (lambda: _raise(EngineError("x")), 0, []),
        (lambda: _raise(KeyboardInterrupt()), 2, [2]),
        (lambda: _raise(BrokenEngineError("x")), 0, [1]),
        (lambda: _raise(BrokenEngineError("x")), 2, [3]),
    ],
)
@pytest.mark.parametrize("loaded", [True, False])
def test_an_attempt_stays_after_a_death_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: Callable[[], None],
    before: int,
    after: list[int],
    loaded: bool,
) -> None:
    may_load = threading.Event()
    monkeypatch.setattr(
        "pipeline.engines.thread.make_embedder", lambda config: may_load.wait() and HashingEmbedder(CONFIG)
    )
    write_parquet(tmp_path / "in/a.parquet", [{"text": "t"}])
    chunk = chunk_of(job_of(tmp_path / "in"), "a.parquet", 0, 1)
    attempts, thread = AttemptFiles(tmp_path / "attempts"), EngineThread(CONFIG)
    attempts.put(chunk, before)
    if loaded:
        may_load.set()
        thread.wait()
    on_leaving = contextlib.ExitStack()
    on_leaving.callback(thread.close)
    on_leaving.callback(may_load.set)  # whatever happens: the thread waits for it
    quietly, attempted = contextlib.suppress(EngineError, KeyboardInterrupt), attempt(attempts, chunk, before, thread)
    with on_leaving, quietly, attempted as counted:
        assert deaths_of(chunk, attempts.read()) == before + loaded
        may_load.set()
        counted.embed([[1]], 64)
        assert attempts.read() == [Attempt(chunk=chunk, deaths=before + 1)]
        ending()
    assert [each.deaths for each in attempts.read()] == after


def _raise(error: BaseException) -> None:
    raise error


def test_an_attempt_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    for name, text in {"torn": '{"chunk": {"id', "empty": "", "list": "[]", "bytes": "\udcff"}.items():
        (tmp_path / f"{name}.json").write_text(text, errors="surrogateescape")
    assert AttemptFiles(tmp_path).read() == []
    assert AttemptFiles(tmp_path / "none").read() == []
