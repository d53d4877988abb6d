"""Each benchmark over a few rows with engines that need no model: it runs, its parts agree, and it makes a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import bare, overhead, rows
from tests.benchmarks.corpora import write_short
from tests.benchmarks.instant import N_VECTORS, InstantEmbedder, numbers, vectors
from tests.benchmarks.results import Result
from tests.benchmarks.table import read_results, section
from tests.support import local_config


def made(folder: Path) -> Result:
    [found] = read_results(folder)
    assert found.problems == ()
    assert section(found).count("\n| ") == 2 + len(found.figures)
    return found


def test_overhead(tmp_path: Path) -> None:
    assert overhead.main(["--rows", "300", "--turns", "1", "--folder", str(tmp_path)]) == 0
    found = made(tmp_path)
    assert [figure.goal for figure in found.figures] == [1.5, 1.5, 1.25, 1.25]
    assert found.corpora["short texts"]["rows"] == 300
    assert len(found.notes) == 2


def test_rows(tmp_path: Path) -> None:
    assert rows.main(["--rows", "200", "400", "--turns", "1", "--folder", str(tmp_path)]) == 0
    assert [figure.case for figure in made(tmp_path).figures] == [
        "200 rows, time",
        "200 rows, memory",
        "400 rows, time",
        "400 rows, memory",
    ]


def test_bare(tmp_path: Path) -> None:
    few = ["--words", "600", "--turns", "1", "--set", "engine.kind=hashing", "--folder", str(tmp_path)]
    assert bare.main(few) == 0
    assert [figure.goal for figure in made(tmp_path).figures] == [1.03] * 3


def test_what_differs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_short(tmp_path / "a.jsonl", 20)
    ours, raw = overhead.ours(source, tmp_path, 8), overhead.raw(source, tmp_path, 8)
    assert overhead.differences(source, 8, ours, raw) == []
    fewer = write_short(tmp_path / "b.jsonl", 19)
    assert overhead.differences(fewer, 8, ours, raw) == ["b.jsonl, 8: the rows differ"]
    others = np.zeros((20, 8), np.float16)
    monkeypatch.setattr("tests.benchmarks.overhead.ready_vectors", lambda source, width: others)
    assert overhead.differences(source, 8, ours, raw) == ["a.jsonl, 8: the vectors differ"]


def test_the_instant_engine_knows_a_text_by_its_first_word() -> None:
    config = local_config("engine.kind=hashing", "model.dims=[8]")
    token_ids = [[int(number), 5] for number in numbers(["one", "two"])]
    found = InstantEmbedder(config).embed([*token_ids, [N_VECTORS + token_ids[0][0]]])
    np.testing.assert_array_equal(found, vectors(8)[numbers(["one", "two", "one"])])
