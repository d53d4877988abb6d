"""Places: where the rows of a part are in the order of its chunk."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.chunk import ShardSpan

FAR = 2**62  # of a part that says that it has as many rows


class Places:
    """The rows of some spans, numbered from 0 on in their order."""

    def __init__(self, spans: Sequence[ShardSpan]) -> None:
        before = itertools.accumulate((each.span.n_rows for each in spans), initial=0)
        of_source: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for each, n_before in zip(spans, before, strict=False):
            of_source[each.source].append((each.span.row_start, each.span.row_stop, min(n_before, FAR)))
        self._sources = pa.array(of_source, pa.string())
        sorted_spans = [sorted(found) for found in of_source.values()]
        self._spans = np.array([each for found in sorted_spans for each in found], np.int64).reshape(-1, 3)
        self._first = np.cumsum([0, *map(len, sorted_spans)])  # index of each source's first span

    def of(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """Return the place of each entry, by its source and row; -1 for one of no span."""
        found = pc.index_in(batch.column("source"), value_set=self._sources).fill_null(-1)
        source = found.to_numpy(zero_copy_only=False).astype(np.int64)
        row = batch.column("row").fill_null(-1).to_numpy(zero_copy_only=False)
        span = self._first[source]
        for several in np.flatnonzero(np.diff(self._first) > 1):  # sources with more than one span
            here, first, stop = source == several, self._first[several], self._first[several + 1]
            starts = self._spans[first:stop, 0]
            span[here] = first + np.maximum(0, np.searchsorted(starts, row[here], "right") - 1)
        start, end, n_before = self._spans[np.where(source < 0, 0, span)].T
        is_inside = (source >= 0) & (start <= row) & (row < end)
        return np.where(is_inside, n_before + (row - start), -1)
