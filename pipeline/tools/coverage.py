"""Coverage: is every row of an input in a dataset, embedded or rejected? By file and row, in constant memory."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.chunk import ShardSpan, overlapping
from pipeline.corpus import Input, check_input, find_shards, reader_of, rebased
from pipeline.dataset import Manifest, Receipt, Store, rows_within
from pipeline.errors import CorpusError
from pipeline.files import open_own_parquet
from pipeline.schema import PART, REJECTS
from pipeline.tools.verify import Problem

NO_ROWS = np.array([], np.int64)
ROWS = pa.schema([PART.field("source"), PART.field("row")])
PARTS_IN_MEMORY = 2  # their rows: a shard has them in parts that follow one another
Held = tuple[Receipt, ShardSpan]  # a part and one of its spans

RowNumbers = Iterator[NDArray[np.int64]]


def coverage(input: Input, store: Store, manifest: Manifest) -> Iterator[Problem]:
    """Yield where an input and a dataset differ; raises CorpusError when the input cannot be read.

    The kinds: `row`, a part does not have exactly the rows of its span; `lost`, rows that are in no part's span;
    `outdated`, a file that is new, has changed, is gone or was skipped.
    """
    check_input(input, store.root)
    root, shards = rebased(*find_shards(input), {receipt.root for receipt in manifest.receipts.values()})
    by_source: dict[str, list[Held]] = defaultdict(list)
    for receipt in manifest.receipts.values():
        for each in receipt.spans:
            by_source[each.source].append((receipt, each))
    rows_of = functools.lru_cache(PARTS_IN_MEMORY)(functools.partial(_part_rows, store))
    skipped = manifest.run.skipped_files if manifest.run else ()

    for shard in shards:
        held, path = by_source.pop(shard.source, []), root / shard.source
        held.sort(key=lambda one: one[1].span.row_start)

        def outdated(why: str, where: str = str(path)) -> Problem:
            return Problem(kind="outdated", path=where, detail=f"{why}; run again")

        if shard.source in skipped:
            yield outdated("expected a file of rows, found one that --skip-bad-files left out")
        elif not held:
            if any(len(rows) for rows in reader_of(root, shard.source).row_numbers()):
                yield outdated("not in the dataset yet")
        elif not all(manifest.is_current(receipt, each, shard) for receipt, each in held):
            yield outdated("changed after it was embedded")
        else:
            limited = manifest.run is not None and manifest.run.limit is not None
            for problem in _shard_problems(root, held, rows_of):
                yield outdated("rows are left out by --limit") if limited and problem.kind == "lost" else problem
    for source in () if manifest.run and manifest.run.keep_missing else by_source:
        yield Problem(kind="outdated", path=source, detail="no longer in the input; run again")


def _shard_problems(root: Path, held: Sequence[Held], rows_of: Callable[[str, bool], pa.Table]) -> Iterator[Problem]:
    source = held[0][1].source
    reader, path = reader_of(root, source), root / source
    twice = set(overlapping([each.span for _, each in held]))
    apart = [one for index, one in enumerate(held) if index not in twice]
    ends = [edge for _, each in apart for edge in (each.span.row_start, each.span.row_stop)]
    found_rows = (
        np.unique(rows_within(rows_of(receipt.part, receipt.has_rejects), each).column("row").to_numpy())
        for receipt, each in apart
    )
    n_lost, n_extra = np.zeros(len(ends) + 1, int), np.zeros(len(ends) + 1, int)
    first: dict[int, int] = {}  # row of each place in `ends`
    for expected, found in _aligned(reader.row_numbers(), found_rows):
        for counts, rows in (
            (n_lost, np.setdiff1d(expected, found, assume_unique=True)),
            (n_extra, np.setdiff1d(found, expected)),
        ):
            where = np.searchsorted(ends, rows, "right")  # odd inside a part's span, even between two
            counts += np.bincount(where, minlength=len(counts))
            for at in np.unique(where):
                first.setdefault(int(at), int(rows[np.argmax(where == at)]))
    for at, row in sorted(first.items()):
        if at % 2:
            detail = (
                f"{n_lost[at]:,} rows of {path.name} are not there and {n_extra[at]:,} are not its own, as row {row}"
            )
            yield Problem(kind="row", path=f"data/{apart[at // 2][0].part}", detail=detail)
        else:
            detail = f"{n_lost[at]:,} rows from row {row} on are neither embedded nor rejected; run again"
            yield Problem(kind="lost", path=str(path), detail=detail)


def _aligned(expected: RowNumbers, found: RowNumbers) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield two rising sequences piece by piece, both cut at the same numbers."""
    left, right = NO_ROWS, NO_ROWS
    while True:
        left = left if len(left) else next((rows for rows in expected if len(rows)), NO_ROWS)
        right = right if len(right) else next((rows for rows in found if len(rows)), NO_ROWS)
        if not len(left) and not len(right):
            return
        stop = min(rows[-1] for rows in (left, right) if len(rows))
        cut_left, cut_right = np.searchsorted(left, stop, "right"), np.searchsorted(right, stop, "right")
        yield left[:cut_left], right[:cut_right]
        left, right = left[cut_left:], right[cut_right:]


def _part_rows(store: Store, part: str, has_rejects: bool) -> pa.Table:
    """Return source and row of all rows of a part, embedded or rejected; none where its files cannot be read."""
    tables = [ROWS.empty_table()]
    try:
        with open_own_parquet(store.data_path(part)) as file:
            _check_types(file.schema_arrow, PART, "source", "row", "passage")
            for batch in file.iter_batches(columns=["source", "row", "passage"], use_threads=False):
                rows = pa.table(batch).filter(pc.equal(batch.column("passage"), 0))
                tables.append(rows.select(ROWS.names))
        if has_rejects:
            with open_own_parquet(store.rejects_path(part)) as file:
                _check_types(file.schema_arrow, REJECTS, "source", "row")
                tables += [pa.table(batch) for batch in file.iter_batches(columns=ROWS.names, use_threads=False)]
    except CorpusError:  # `verify` has said so
        return ROWS.empty_table()
    return pa.concat_tables(tables)


def _check_types(found: pa.Schema, expected: pa.Schema, *names: str) -> None:
    if any(
        found.get_all_field_indices(name) == [] or found.field(name).type != expected.field(name).type for name in names
    ):
        raise CorpusError(f"expected columns {', '.join(names)}, found {', '.join(found.names)}")
