"""The memory of a process: a text is embedded by the first chunk that has it, whatever becomes of that chunk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import pipeline.worker.memory
from pipeline.config import load_config
from pipeline.dataset.index import VectorIndex, index_part, index_vectors, joined
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.dataset.volume import LocalVolume
from pipeline.errors import EngineError
from pipeline.schema import PASSAGE, content_hashes
from pipeline.worker.container import Service, pack
from pipeline.worker.embed import Failure
from pipeline.worker.memory import Memory
from tests.support import read_dataset
from tests.support.chunks import HASHING, Corpus, Engine


def test_a_chunk_takes_what_an_earlier_one_has_embedded(tmp_path: Path) -> None:
    corpus, engine = Corpus(tmp_path, "abb", "bcb", "acb"), Engine()
    assert [corpus.counts(chunk, engine) for chunk in range(3)] == [(3, 2), (3, 1), (3, 0)]
    assert engine.calls == [2, 1]  # the last does not wait for its turn
    assert [len(vectors) for vectors in corpus.vectors.values()] == [1, 1, 1]


def after(*events: threading.Event) -> None:
    """Wait for what another thread does."""
    assert all(event.wait(60) for event in events)


def beside(first: Callable[[], Any], has_claimed: threading.Event, second: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what two calls return; the second begins once the first has claimed its texts."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(first)
        after(has_claimed)
        return second(), future.result()


@pytest.mark.parametrize("ends", ["well", "by an error of the engine", "by an error of the volume"])
def test_a_chunk_that_waits_has_every_text_whatever_becomes_of_the_other(
    tmp_path: Path, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus(tmp_path, "abc", "bcd")
    has_claimed, has_embedded = threading.Event(), threading.Event()

    def slow(token_ids: Sequence[Sequence[int]]) -> dict[int, str]:
        has_claimed.set()
        after(has_embedded)
        if ends == "by an error of the engine":
            raise EngineError("out of memory")
        return {}

    def quick(token_ids: Sequence[Sequence[int]]) -> dict[int, str]:
        has_embedded.set()
        return {}

    publish = Store.publish

    def published(self: Store, receipt: Receipt, *rest: Any) -> Receipt:
        if receipt.chunk == corpus.chunks[0].id and ends == "by an error of the volume":
            raise EngineError("as good as any")
        return publish(self, receipt, *rest)

    monkeypatch.setattr(Store, "publish", published)
    second = Engine(quick)
    made, other = beside(lambda: corpus.embed(0, Engine(slow)), has_claimed, lambda: corpus.counts(1, second))
    assert isinstance(other, Receipt if ends == "well" else Failure)
    assert (made, second.calls) == (((3, 1), [1]) if ends == "well" else ((3, 3), [1, 2]))
    assert {len(vectors) for vectors in corpus.vectors.values()} == {1}
    if ends != "well":
        monkeypatch.undo()
        assert corpus.counts(0, Engine()) == (3, 1)


def test_a_text_that_the_engine_refuses_is_tried_by_each_chunk_that_has_it(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "abc", "add", "aee")
    assert corpus.counts(0, Engine(lambda token_ids: {0: "too odd"})) == (2, 2)
    assert corpus.counts(1, Engine(lambda token_ids: {0: "too odd"})) == (2, 1)
    assert corpus.counts(2, Engine()) == (3, 2)


@pytest.mark.parametrize("what", ["gone", "damaged", "another's"])
def test_texts_of_a_part_that_is_not_as_it_was_are_embedded_again(tmp_path: Path, what: str) -> None:
    corpus = Corpus(tmp_path, "abc", "xyz", "abc", "bca")
    assert [corpus.counts(chunk, Engine()) for chunk in (0, 1)] == [(3, 3), (3, 3)]
    part, other = (corpus.store.data_path(chunk.part_name) for chunk in corpus.chunks[:2])
    if what == "gone":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-9] if what == "damaged" else other.read_bytes())
    assert [corpus.counts(chunk, Engine()) for chunk in (2, 3)] == [(3, 3), (3, 0)]


def test_what_was_met_longest_ago_is_forgotten_above_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.worker.memory, "MAX_TEXTS", 9)
    monkeypatch.setattr(pipeline.worker.memory, "MAX_JOINED", 3)
    corpus = Corpus(tmp_path, "abc", "def", "ghi", "abc", "jkl", "abc", "def")
    n_embedded = [corpus.counts(chunk, Engine())[1] for chunk in range(7)]
    assert n_embedded == [3, 3, 3, 0, 3, 0, 3]
    assert {len(vectors) for vectors in corpus.vectors.values()} == {1}


def table_of(*names: str, n_passages: int = 1) -> pa.Table:
    rows = [
        {"content_hash": content_hashes([name])[0], "passage": passage}
        for name in names
        for passage in range(n_passages)
    ]
    schema = pa.schema([pa.field("content_hash", pa.binary(16)), PASSAGE.field("passage")])
    return pa.Table.from_pylist(rows, schema)


def size_of(index: VectorIndex) -> int:
    return sum(array.nbytes for array in (index.keys, index.path, index.entry, index.n_passages))


def test_a_text_takes_20_bytes_and_few_indices_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.worker.memory, "MAX_TEXTS", 4000)
    monkeypatch.setattr(pipeline.worker.memory, "MAX_JOINED", 500)
    memory, chance = Memory(), np.random.default_rng(1)
    sizes = [int(size) for size in chance.integers(1, 60, 400)]
    for number, size in enumerate(sizes):
        with memory.claiming("run") as claim:
            claim.publish(Path(f"{number}"), table_of(*(f"{number}-{text}" for text in range(size))))
        [indices] = memory._embedded.values()
        n_texts = sum(len(index.keys) for index in indices)
        assert min(sum(sizes[: number + 1]), 4000 - 500) <= n_texts <= 4000
        assert sum(map(size_of, indices)) == 20 * n_texts
        assert len(indices) <= 2 * 8 + 9


def test_parts_without_a_text_take_no_room() -> None:
    memory = Memory()
    for number, names in enumerate(["", "", "abc", "", "", "", "d"]):
        with memory.claiming("run") as claim:
            claim.publish(Path(f"{number}"), table_of(*names))
    [indices] = memory._embedded.values()
    assert [len(index.keys) for index in indices] == [3, 1]


def test_runs_share_the_bound_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.worker.memory, "MAX_TEXTS", 4)
    memory = Memory()

    def n_new(run: str, names: str) -> int:
        with memory.claiming(run) as claim:
            return int(np.count_nonzero(claim.claim(content_hashes(names))))

    with memory.claiming("one") as claim:
        claim.publish(Path("one"), table_of(*"ab"))
    assert (n_new("one", "abc"), n_new("two", "abc")) == (1, 3)
    with memory.claiming("one") as mine, memory.claiming("two") as other:
        assert [claim.claim(content_hashes("xy")).tolist() for claim in (mine, other)] == [[True, True]] * 2
    with memory.claiming("two") as claim:
        claim.publish(Path("two"), table_of(*"abc"))
    assert (n_new("one", "abc"), n_new("two", "abc")) == (3, 0)


def test_of_a_text_that_many_parts_have_the_first_given_is_taken() -> None:
    one, other = index_part(Path("1"), table_of(*"ab", n_passages=2)), index_part(Path("2"), table_of(*"cbd"))
    both = joined([one, other, index_part(Path("3"), table_of(*"ab"))])
    assert both.paths == (Path("1"), Path("2"))
    found = {key: (both.paths[path].name, entry, n) for key, path, entry, n in zip(*arrays(both), strict=True)}
    keys = [int(key) for key in np.frombuffer(b"".join(content_hashes("abcd")), np.uint64)[::2]]
    assert [found[key] for key in keys] == [("1", 0, 2), ("1", 2, 2), ("2", 0, 1), ("2", 2, 1)]
    assert not len(joined([]).keys)


def arrays(index: VectorIndex) -> Iterator[list[int]]:
    return (array.tolist() for array in (index.keys, index.path, index.entry, index.n_passages))


def test_a_text_whose_key_another_has_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def colliding(texts: Sequence[str]) -> list[bytes]:
        return [b"samesame" + digest[8:] for digest in content_hashes(texts)]

    expected = Corpus(tmp_path / "expected", "abc", "cda", "bad")
    assert [expected.counts(chunk, Engine())[0] for chunk in range(3)] == [3, 3, 3]
    right = read_dataset(expected.store.root).column("embedding")
    monkeypatch.setattr("pipeline.worker.embed.content_hashes", colliding)
    corpus = Corpus(tmp_path, "abc", "cda", "bad")
    assert [corpus.counts(chunk, Engine())[0] for chunk in range(3)] == [3, 3, 3]
    assert read_dataset(corpus.store.root).column("embedding").equals(right)


@given(
    texts=st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=40),
    order=st.randoms(use_true_random=False),
    fails=st.sets(st.integers(0, 12), max_size=3),
)
@hypothesis_settings(max_examples=60)
def test_two_chunks_in_flight_embed_each_text_once_whatever_fails(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], order: Any, fails: set[int]
) -> None:
    corpus = Corpus(tmp_path_factory.mktemp("corpus"), *texts)
    numbers = list(range(len(corpus.chunks)))
    order.shuffle(numbers)

    def one(number: int) -> tuple[Receipt | Failure, int]:
        def fail(token_ids: Sequence[Sequence[int]]) -> dict[int, str]:
            if number in fails:
                raise EngineError("by chance")
            return {}

        engine = Engine(fail)
        return corpus.embed(number, engine), sum(engine.calls)

    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(one, numbers))
    done = [receipt for receipt, _ in made if isinstance(receipt, Receipt)]
    failed = {numbers[at] for at, (outcome, _) in enumerate(made) if isinstance(outcome, Failure)}
    assert failed <= fails
    vectors = corpus.vectors if done else {}
    assert {len(found) for found in vectors.values()} <= {1}
    n_embedded = sum(receipt.engine_texts for receipt in done)
    assert n_embedded >= len(vectors) if failed else n_embedded == len(set(texts)) == len(vectors)


def test_a_service_knows_jobs_of_other_widths_places_and_runs_apart(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "aba", "bac")
    for name in "xy":
        (tmp_path / name).mkdir()
    job = pack(corpus.job)
    narrow = job | {"config": job["config"] | {"run": job["config"]["run"] | {"dim": 64}}}
    service = Service(load_config(HASHING), tmp_path, LocalVolume())

    def n_embedded(digit: str, job: dict[str, Any], output: str) -> list[int]:
        """Embed the chunks under ids of their own, so that none is there already."""
        ids = [chunk.id[:-1] + digit for chunk in corpus.chunks]
        chunks = [pack(chunk) | {"id": of_chunk} for chunk, of_chunk in zip(corpus.chunks, ids, strict=True)]
        return [service.embed_chunk(chunk, job, output)["engine_texts"] for chunk in chunks]

    try:
        assert n_embedded("0", job, "x") == [2, 1]
        assert n_embedded("1", job, "x") == [0, 0]
        assert n_embedded("2", job, "y") == [2, 1]
        assert n_embedded("3", narrow, "x") == [2, 1]
        assert n_embedded("4", job | {"staged": True}, "x") == [2, 1]
        assert n_embedded("5", job | {"began_at": 1.0}, "x") == [2, 1]
        assert n_embedded("6", job, "x") == [0, 0]
    finally:
        service.close()


def test_a_part_that_is_too_short_for_what_is_looked_for_is_passed_over(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, "abc", "xx")
    assert [corpus.counts(chunk, Engine()) for chunk in (0, 1)] == [(3, 3), (2, 1)]
    long, short = (corpus.store.data_path(chunk.part_name) for chunk in corpus.chunks)
    index = index_vectors([long], 384)
    whole = index.take(np.arange(3), nullcontext())
    assert whole is not None
    assert len(whole) == 3
    short.replace(long)
    assert index.take(np.arange(3), nullcontext()) is None
