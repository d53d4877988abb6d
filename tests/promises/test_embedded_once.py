"""Equal texts are paid for once in a run, in whichever files and chunks they are, and have one vector."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.driver.inventory import RunOptions
from tests.support import HASHING, embed_corpus, ids, read_dataset, status, texts
from tests.support.crash import crashing_run, hashing_run
from tests.support.edits import Corpus, Row

SMALL: dict[str, Any] = {"run__chunk_tokens": 300}
N_DISTINCT = 120


def duplicated(chance: random.Random, n_rows: int, n_distinct: int = N_DISTINCT) -> list[Row]:
    """Return rows with ids of their own and texts that come again."""
    distinct = texts(n_distinct)
    return [{"id": f"{i}", "text": chance.choice(distinct)["text"]} for i in range(n_rows)]


def corpus_of(folder: Path, rows: Sequence[Row]) -> Corpus:
    """Return a corpus of four files, in which the rows are dealt like cards."""
    names = ("a.jsonl", "b.parquet", "c.jsonl.gz", "d/e.parquet")
    return Corpus(folder / "in", {name: rows[at :: len(names)] for at, name in enumerate(names)})


def n_texts(rows: Sequence[Row]) -> int:
    return len({row["text"] for row in rows})


def check_vectors(output: Path, scratch: Path, **settings: Any) -> None:
    """Expect for each text, bit for bit, what a run has of it whose corpus has each text once."""
    rows = texts(N_DISTINCT)
    hashing_run(Corpus(scratch / "in", {"a.jsonl": rows}).root, scratch / "out", **settings)
    columns = ["content_hash", "passage", "char_start", "char_end", "n_tokens", "truncated", "embedding"]
    expected: dict[bytes, list[Any]] = {}
    for digest, *rest in zip(*read_dataset(scratch / "out").select(columns).to_pydict().values(), strict=True):
        expected.setdefault(digest, []).append(rest)
    found: dict[tuple[str, int], list[Any]] = {}
    table = read_dataset(output)
    hashes = {}
    for source, row, digest, *rest in zip(*table.select(["source", "row", *columns]).to_pydict().values(), strict=True):
        found.setdefault((source, row), []).append(rest)
        hashes[source, row] = digest
    assert all(passages == expected[hashes[place]] for place, passages in found.items())


@pytest.mark.parametrize("on_long", ["truncate", "split"])
def test_equal_texts_of_all_files_and_chunks_are_embedded_once(tmp_path: Path, on_long: str) -> None:
    settings: dict[str, Any] = {"model__max_tokens": 8, "corpus__on_long": on_long, **SMALL}
    rows = duplicated(random.Random(3), 600)
    corpus = corpus_of(tmp_path, rows)
    told = hashing_run(corpus.root, tmp_path / "out", **settings)
    once = Corpus(tmp_path / "once", {"a.jsonl": list({row["text"]: row for row in rows}.values())})
    assert told["embedded_now"] == hashing_run(once.root, tmp_path / "out-once", **settings)["embedded_now"]
    assert told["reused_rows"] == 0
    assert on_long == "split" or told["embedded_now"] == n_texts(rows)
    assert sorted(ids(tmp_path / "out")) == sorted(row["id"] for row in rows)
    assert len(list((tmp_path / "out/data").iterdir())) > 8
    check_vectors(tmp_path / "out", tmp_path / "each", **settings)
    verified = embed_corpus("verify", tmp_path / "out", "--input", corpus.root)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_status_counts_each_text_once_and_each_row_that_is_rejected(tmp_path: Path) -> None:
    chance = random.Random(6)
    short, long = texts(30), [{"text": f"{i} " + "and on " * 40} for i in range(3)]
    rows: list[Row] = [{"id": f"{i}", "text": chance.choice([*short, *long])["text"]} for i in range(400)]
    corpus, output = corpus_of(tmp_path, rows), tmp_path / "out"
    settings = ("--set", "run.chunk_tokens=300", "--set", "corpus.on_long=reject", "--set", "model.max_tokens=30")
    done = embed_corpus("run", "--input", corpus.root, "--output", output, *HASHING, *settings)
    assert done.returncode == 0, done.stderr
    told = status(output)
    n_long = sum(row["text"].endswith("and on ") for row in rows)
    assert told["rejected_by_reason"] == {"too_long": n_long}
    assert (told["embedded_rows"], told["embedded_now"], told["reused_rows"]) == (400 - n_long, 30, 0)
    assert told["parts"] > 8
    again = embed_corpus("run", "--input", corpus.root, "--output", output, *HASHING, *settings)
    assert again.returncode == 0, again.stderr
    assert status(output)["embedded_now"] == 0


def test_parts_that_wait_for_the_swap_are_taken_from_as_well(tmp_path: Path) -> None:
    rows = duplicated(random.Random(4), 400)
    corpus = corpus_of(tmp_path, rows)
    hashing_run(corpus.root, tmp_path / "out", **SMALL)
    other = {"model__document_prompt": "'passage: '", **SMALL}
    told = hashing_run(corpus.root, tmp_path / "out", RunOptions(rebuild=True), **other)
    assert (told["embedded_now"], told["reused_rows"]) == (n_texts(rows), 0)
    check_vectors(tmp_path / "out", tmp_path / "each", **other)


def test_rows_with_vectors_of_an_earlier_run_are_counted_apart_from_those_of_this_one(tmp_path: Path) -> None:
    first, more = texts(40), texts(40, start=40)
    corpus = Corpus(tmp_path / "in", {"a.jsonl": first})
    hashing_run(corpus.root, tmp_path / "out", **SMALL)
    corpus.write("a.jsonl", [*more, *first])
    corpus.write("b.jsonl", [*first[:10], *more])
    told = hashing_run(corpus.root, tmp_path / "out", **SMALL)
    assert (told["embedded_now"], told["reused_rows"]) == (40, 50)


@given(
    n_rows=st.integers(1, 150),
    n_distinct=st.integers(1, 60),
    chunk_tokens=st.integers(20, 900),
    chance=st.randoms(use_true_random=False),
)
@hypothesis_settings(max_examples=25)
def test_whatever_comes_again_wherever_chunks_are_cut(
    tmp_path_factory: pytest.TempPathFactory, n_rows: int, n_distinct: int, chunk_tokens: int, chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("once")
    rows = duplicated(chance, n_rows, n_distinct)
    corpus = corpus_of(folder, rows)
    told = hashing_run(corpus.root, folder / "out", run__chunk_tokens=chunk_tokens)
    assert told["embedded_now"] == n_texts(rows)
    check_vectors(folder / "out", folder / "each")


@pytest.mark.parametrize("kill_at", [40, 100, 160])
def test_a_run_that_died_goes_on_with_the_texts_of_what_is_missing(tmp_path: Path, kill_at: int) -> None:
    rows = duplicated(random.Random(5), 600)
    corpus, output = corpus_of(tmp_path, rows), tmp_path / "out"
    assert crashing_run(corpus.root, output, kill_at, **SMALL).killed
    there = set(ids(output))
    missing = [row for row in rows if row["id"] not in there]
    assert 0 < len(missing) < len(rows)
    assert hashing_run(corpus.root, output, **SMALL)["embedded_now"] == n_texts(missing)
    hashing_run(corpus.root, tmp_path / "whole", **SMALL)
    assert read_dataset(output).equals(read_dataset(tmp_path / "whole"))
