"""Outputs: the ids and vectors that a peer wrote, whatever it wrote them into."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

Vectors = dict[str, NDArray[np.float32]]


def read(folder: Path) -> tuple[list[str], Vectors]:
    """Return all ids that a peer wrote, and a vector for each; what cannot be read counts as not written."""
    ids: list[str] = []
    vectors: Vectors = {}
    for path in sorted([*folder.rglob("*.parquet"), *folder.glob("*.lance"), *folder.glob("*.jsonl")]):
        try:
            more, found = _READERS[path.suffix](path)
        except (ValueError, OSError):  # cut off by a kill
            continue
        ids += more
        vectors |= found
    return ids, vectors


def lost_and_doubled(wanted: Iterable[str], written: Iterable[str]) -> tuple[int, int]:
    """Return how many rows were not written, and how many were written beyond once."""
    found = Counter(written)
    return len(set(wanted) - found.keys()), found.total() - len(found)


def least_cosine(ours: Vectors, theirs: Vectors) -> float | None:
    """Return the least cosine of two vectors of one id; None where there is no id in both."""
    cosines = [
        float(mine @ theirs[key] / (np.linalg.norm(mine) * np.linalg.norm(theirs[key])))
        for key, mine in ours.items()
        if key in theirs
    ]
    return min(cosines, default=None)


def _of_parquet(path: Path) -> tuple[list[str], Vectors]:
    return _of_table(ds.dataset(path).to_table(columns=["id", "embedding"]))


def _of_lance(path: Path) -> tuple[list[str], Vectors]:
    import lance

    return _of_table(lance.dataset(str(path)).to_table(columns=["id", "embedding"]))


def _of_table(table: pa.Table) -> tuple[list[str], Vectors]:
    ids: list[str] = table["id"].to_pylist()
    vectors = np.asarray(table["embedding"].to_pylist(), np.float32)
    return ids, dict(zip(ids, vectors, strict=True))


def _of_answers(path: Path) -> tuple[list[str], Vectors]:
    answers = [json.loads(line) for line in path.read_text().splitlines()]
    given = [each for each in answers if each["response"] and each["response"]["status_code"] == 200]
    vectors = {
        each["custom_id"]: np.asarray(each["response"]["body"]["data"][0]["embedding"], np.float32) for each in given
    }
    return [each["custom_id"] for each in given], vectors


_READERS = {".parquet": _of_parquet, ".lance": _of_lance, ".jsonl": _of_answers}
