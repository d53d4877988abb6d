"""A long corpus is cut into chunks while it is embedded; a short one before."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pipeline.chunk import Chunk
from pipeline.corpus import stream
from pipeline.corpus.textual.lines import HEAD_BYTES
from pipeline.dataset import Receipt, Store
from pipeline.driver import plan
from pipeline.driver.fan_out import FanOut, fan_out_here
from pipeline.driver.inventory import RunOptions
from pipeline.driver.run import Outcome, run
from pipeline.tools.verify import verify
from pipeline.worker import Failure, Job
from tests.support import ids, local_config, read_dataset, texts, write_jsonl

CONFIG = local_config("engine.kind=hashing", "run.chunk_tokens=400")
N_FILES, PER_FILE = 20, 30


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of files of lines, which counts as a long corpus."""
    for number in range(N_FILES):
        write_jsonl(tmp_path / f"in/{number:02}.jsonl.gz", texts(PER_FILE, start=number * PER_FILE))
    monkeypatch.setattr(plan, "STREAM_ABOVE_BYTES", 0)
    return tmp_path / "in"


def embed(corpus: Path, output: Path, fan_out: FanOut | None = None, *, limit: int | None = None) -> Outcome:
    store = Store(root=output)
    return run(str(corpus), store, CONFIG, fan_out=fan_out or fan_out_here(store), options=RunOptions(limit=limit))


def names(numbers: Iterable[int]) -> list[str]:
    return sorted(row["id"] for number in numbers for row in texts(PER_FILE, start=number * PER_FILE))


def test_chunks_are_handed_out_before_the_last_file_is_read(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    store = Store(root=tmp_path / "out")

    def fan_out(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        def watched() -> Iterator[Chunk]:
            for chunk in chunks:
                asked.append(f"asked for {chunk.source}")
                yield chunk

        for outcome in fan_out_here(store)(watched(), job):
            asked.append("made one")
            yield outcome

    streamed = embed(corpus, store.root, fan_out)
    assert streamed.run.state == "complete"
    assert asked.index("made one") < len([each for each in asked if each.startswith("asked")]) / 2
    assert sorted(ids(store.root)) == names(range(N_FILES))
    assert verify(store, store.read_manifest())[0] == []
    monkeypatch.undo()
    assert embed(corpus, tmp_path / "whole").run.embedded_now == streamed.run.embedded_now
    assert read_dataset(store.root).equals(read_dataset(tmp_path / "whole"))
    assert embed(corpus, store.root).run.embedded_now == 0


def test_a_file_that_turns_out_damaged_costs_its_own_rows_alone(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", HEAD_BYTES)
    long = texts(20_000, start=10_000)
    bad = write_jsonl(corpus / "15.jsonl.gz", long)
    whole = bad.read_bytes()
    assert len(gzip.decompress(whole)) > 2 * HEAD_BYTES
    bad.write_bytes(whole[:-1000])
    config = local_config("engine.kind=hashing", "run.chunk_tokens=4000")
    store = Store(root=tmp_path / "out")
    outcome = run(str(corpus), store, config, fan_out=fan_out_here(store))
    assert (outcome.run.state, outcome.run.missing_chunks) == ("incomplete", 1)
    assert "15.jsonl.gz" in outcome.shortfall()
    others = names(set(range(N_FILES)) - {15})
    assert set(ids(store.root)) >= set(others)
    bad.write_bytes(whole)
    assert run(str(corpus), store, config, fan_out=fan_out_here(store)).run.state == "complete"
    assert sorted(ids(store.root)) == sorted([*others, *(row["id"] for row in long)])


def test_a_limit_ends_the_stream(corpus: Path, tmp_path: Path) -> None:
    assert embed(corpus, tmp_path / "out", limit=100).totals["input_rows"] == 100


def test_what_was_never_asked_for_is_missing(corpus: Path, tmp_path: Path) -> None:
    store = Store(root=tmp_path / "out")

    def one_alone(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        yield from fan_out_here(store)([next(iter(chunks))], job)

    outcome = embed(corpus, store.root, one_alone)
    assert (outcome.run.state, outcome.totals["parts"]) == ("incomplete", 1)
    assert outcome.run.missing_chunks > 0
    assert embed(corpus, store.root).run.state == "complete"
    assert sorted(ids(store.root)) == names(range(N_FILES))
