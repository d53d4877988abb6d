"""The scan against numpy over the whole dataset; what it keeps, reads and refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import Store
from pipeline.errors import DamageError, UsageError
from pipeline.tools import Searcher
from pipeline.tools.search import scan as scan_module
from pipeline.vectors import fixed_size_list
from tests.support import REPOSITORY, by_manifest
from tests.support.vectors import write_dataset

DIM = 16


def change(store: Store, **columns: Any) -> None:
    """Write other columns into the parts, whose receipts stay: each value is made of the numbers of a part's rows."""
    for part in store.read_manifest().receipts:
        path = store.data_path(part)
        table = pq.read_table(path)
        for name, values in columns.items():
            array = values(table.column("row").to_numpy())
            at = table.schema.get_field_index(name)
            table = table.append_column(name, array) if at < 0 else table.set_column(at, name, array)
        pq.write_table(table, path, row_group_size=7)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a dataset of 5 parts in row groups of 7, of three passages each row, with equal vectors here and there."""
    store = write_dataset(tmp_path_factory.mktemp("scan") / "out", 5, 40, dim=DIM)
    vectors = np.random.default_rng(1).standard_normal((200, DIM)).astype(np.float32)
    vectors[50:60] = vectors[150:160] = vectors[0]
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    change(
        store,
        embedding=lambda rows: fixed_size_list(unit[rows]),
        id=lambda rows: pa.array([f"doc-{row // 3}" for row in rows]),
        passage=lambda rows: pa.array(rows % 3, pa.int32()),
        third=lambda rows: pa.array(rows % 3 == 0),
        number=lambda rows: pa.array(rows),
        row=lambda rows: pa.array(rows // 3),  # the last, as the others are made of it
    )
    return store


def brute(store: Store, query: np.ndarray, rows: Sequence[int]) -> tuple[dict[int, float], dict[str, float]]:
    """Return the score of each row, by all vectors at once, and the best of each id, best first."""
    table = by_manifest(store.root)
    vectors = np.stack(table.column("embedding").to_pylist()).astype(np.float64)
    scores = dict(
        zip(table.column("number").to_pylist(), (vectors @ (query / np.linalg.norm(query))).tolist(), strict=True)
    )
    of_ids: dict[str, float] = {}
    for row, score in sorted(scores.items(), key=lambda item: -item[1]):
        if row in rows:
            of_ids.setdefault(f"doc-{row // 3}", score)
    return scores, of_ids


@given(st.integers(0, 2**32), st.integers(1, 90), st.booleans(), st.booleans())
def test_the_nearest_are_those_of_numpy_one_for_each_row(
    store: Store, seed: int, k: int, is_filtered: bool, keeps: bool
) -> None:
    query = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    hits = Searcher(store, keeps=keeps).find(query, k, "third" if is_filtered else "")
    scores, of_ids = brute(store, query, range(0, 200, 3) if is_filtered else range(200))
    assert [hit["score"] for hit in hits] == pytest.approx([*of_ids.values()][:k], abs=1e-4)
    assert [hit["score"] for hit in hits] == pytest.approx([scores[hit["number"]] for hit in hits], abs=1e-4)
    assert [hit["id"] for hit in hits] == [f"doc-{hit['row']}" for hit in hits]
    assert len({hit["id"] for hit in hits}) == len(hits)
    assert not is_filtered or all(hit["third"] for hit in hits)


def test_one_that_keeps_reads_the_vectors_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read, n_read = scan_module._read, [0]

    def counted(*arguments: Any) -> Any:
        n_read[0] += 1
        return read(*arguments)

    monkeypatch.setattr(scan_module, "_read", counted)
    n_groups = 5 * 6  # of 40 rows in sevens
    query = np.ones(DIM)
    searcher = Searcher(store, keeps=True)
    answers = [searcher.find(query, 3), searcher.find(query, 3), searcher.find(query, 3, "third or not third")]
    assert (n_read[0], answers[0]) == (n_groups, answers[2])
    for _ in range(2):
        assert Searcher(store).find(query, 3) == answers[0]
    assert n_read[0] == 3 * n_groups
    monkeypatch.setattr(scan_module, "KEPT_BYTES", 200 * DIM * 2 - 1)
    searcher = Searcher(store, keeps=True)
    assert [searcher.find(query, 3) for _ in range(2)] == answers[:2]
    assert n_read[0] == 5 * n_groups


def test_row_groups_without_a_row_that_counts_are_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read, groups = scan_module._read, list[int]()

    def seen(file: Any, group: int) -> Any:
        groups.append(group)
        return read(file, group)

    monkeypatch.setattr(scan_module, "_read", seen)
    assert [hit["row"] for hit in Searcher(store).find(np.ones(DIM), 3, "number = 8")] == [2]
    assert groups == [1]


@pytest.mark.parametrize("query", [np.ones(DIM - 1), np.ones((1, DIM)), np.zeros(DIM), np.full(DIM, np.nan)])
def test_a_vector_without_a_direction_or_of_another_width_is_refused(store: Store, query: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"search: expected a vector of shape \(16,\) with a length, found \("):
        Searcher(store).find(query)


def test_vectors_that_are_not_finite_are_damage(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "out", 2, 20, dim=DIM)
    change(store, embedding=lambda rows: fixed_size_list(np.full((len(rows), DIM), np.inf, np.float16)))
    for keeps in (False, True):
        with pytest.raises(DamageError, match=r"vectors that are not finite.*--repair"):
            Searcher(store, keeps=keeps).find(np.ones(DIM))


def test_a_part_of_other_rows_than_its_receipt_says_is_not_kept(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "out", 1, 20, dim=DIM)
    [part] = store.read_manifest().receipts
    pq.write_table(pq.read_table(store.data_path(part)).slice(3), store.data_path(part))
    with pytest.raises(DamageError, match="17 passages where its receipt says 20"):
        Searcher(store, keeps=True).find(np.ones(DIM))


def test_a_column_that_some_parts_lack_is_null_there(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "out", 2, 10, dim=DIM)
    last = store.data_path(sorted(store.read_manifest().receipts)[-1])
    table = pq.read_table(last)
    pq.write_table(table.append_column("lang", pa.array(["en"] * len(table))), last)
    rows, searcher = set(table.column("row").to_pylist()), Searcher(store)
    assert {hit["row"] for hit in searcher.find(np.ones(DIM), 20, "lang = 'en'")} == rows
    assert {hit["row"] for hit in searcher.find(np.ones(DIM), 20, "lang is null")} == {*range(20)} - rows


PEAK = """
import sys
from pathlib import Path
import numpy as np
from pipeline.console import peak_rss_bytes
from pipeline.dataset import Store
from pipeline.tools import Searcher
assert len(Searcher(Store(root=Path(sys.argv[1]))).find(np.ones(384), 10, sys.argv[2])) == 10
print(peak_rss_bytes())
"""


@pytest.mark.parametrize("where", ["", "row >= 0"])
def test_memory_does_not_grow_with_the_dataset(tmp_path: Path, where: str) -> None:
    peaks = []
    for n_parts in (2, 8):  # the vectors of the second are 92 MiB larger in float32
        output = write_dataset(tmp_path / str(n_parts), n_parts, 10_000).root
        command = [sys.executable, "-c", PEAK, str(output), where]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True, cwd=REPOSITORY).stdout))
    assert peaks[1] - peaks[0] < 20 << 20
