"""Hits: the best entries of a scan as rows of the dataset, one for each of its rows in the input."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from pipeline.dataset import open_part
from pipeline.schema import EMBEDDING
from pipeline.tools.search.scan import Best, Scan, Vector
from pipeline.tools.search.where import Condition

LEFT_OUT = (EMBEDDING, "content_hash")  # of a hit


def nearest(scan: Scan, vector: Vector, k: int, where: Condition | None = None) -> list[dict[str, Any]]:
    """Return the `k` ids with the largest cosine to `vector`, shape (dim,), best first, as score and columns.

    Of the passages of one row it is the best one that is returned. Raises DamageError and UsageError as `Scan.best`.
    """
    wanted = k
    while True:
        best = scan.best(vector, wanted, where)
        hits = _of_distinct_rows(scan, best, k)
        if len(hits) == k or len(best.rows) < wanted:
            return hits
        wanted *= 8  # most were of rows that a better one was of


def _of_distinct_rows(scan: Scan, best: Best, k: int) -> list[dict[str, Any]]:
    """Return up to `k` hits of different rows, best first."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for at in range(0, len(best.rows), k):
        here = slice(at, at + k)
        for score, row in zip(best.scores[here], _rows(scan, best, here), strict=True):
            found.setdefault((row["source"], row["row"]), {"score": round(float(score), 4), **row})
        if len(found) >= k:
            break
    return list(found.values())[:k]


def _rows(scan: Scan, best: Best, here: slice) -> list[dict[str, Any]]:
    """Return the columns of some entries, in their order; reads the row groups that they are in, less the vectors."""
    entries = defaultdict[int, list[tuple[int, int]]](list)  # by part: place among the entries, row of the part
    for place, (part, row) in enumerate(zip(best.parts[here].tolist(), best.rows[here].tolist(), strict=True)):
        entries[part].append((place, row))
    found: dict[int, dict[str, Any]] = {}
    for part, wanted in entries.items():
        with open_part(scan.store.data_path(scan.receipts[part].part), scan.dim) as file:
            names = [name for name in file.schema_arrow.names if name not in LEFT_OUT]
            ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)])
            groups = np.searchsorted(ends, [row for _, row in wanted], side="right")
            for group in np.unique(groups).tolist():
                start = int(ends[group]) - file.metadata.row_group(group).num_rows
                inside = [entry for entry, of in zip(wanted, groups, strict=True) if of == group]
                table = file.read_row_group(group, columns=names, use_threads=False)
                rows = table.take([row - start for _, row in inside]).to_pylist()
                found |= {place: row for (place, _), row in zip(inside, rows, strict=True)}
    return [found[place] for place in range(len(found))]
