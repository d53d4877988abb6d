"""Duplicate ids are counted exactly, over any number of parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.parts import count_duplicate_ids

numbers = itertools.count()


def part(folder: Path, ids: Sequence[str], passages: Sequence[int] | None = None) -> Path:
    path = folder / f"{next(numbers)}.parquet"
    columns = {"id": pa.array(ids, pa.string()), "passage": pa.array(passages or [0] * len(ids), pa.int32())}
    pq.write_table(pa.table(columns), path)
    return path


@given(parts=st.lists(st.lists(st.text(max_size=2), max_size=20), max_size=4))
def test_each_row_with_the_id_of_an_earlier_row_counts(parts: list[list[str]], tmp_path: Path) -> None:
    ids = [row_id for of_part in parts for row_id in of_part]
    assert count_duplicate_ids(part(tmp_path, of_part) for of_part in parts) == len(ids) - len(set(ids))


def test_the_passages_of_a_split_row_count_once(tmp_path: Path) -> None:
    first = part(tmp_path, ["x", "x", "x", "y"], [0, 1, 2, 0])
    assert count_duplicate_ids([first]) == 0
    assert count_duplicate_ids([first, part(tmp_path, ["x", "x"], [0, 1])]) == 1


def test_many_ids_that_differ_little_are_told_apart(tmp_path: Path) -> None:
    parts = [part(tmp_path, [f"doc-{i}" for i in range(start, start + 20_000)]) for start in (0, 20_000, 39_990)]
    assert count_duplicate_ids(parts) == 10


def test_no_parts_have_no_duplicates() -> None:
    assert count_duplicate_ids([]) == 0
