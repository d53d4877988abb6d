"""The rejected rows of a dataset, as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.console import in_one_line
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.parts import open_rejects
from pipeline.dataset.store import Store

BATCH_ROWS = 256  # a rejected line may have megabytes


def iter_rejects(store: Store, receipts: Iterable[Receipt]) -> Iterator[dict[str, Any]]:
    """Yield the rejected rows of some parts in the order of source and row, each with the columns of REJECTS.

    One batch is in memory at a time. Raises DamageError for a file that cannot be read or has other columns.
    """
    for receipt in sorted(receipts, key=lambda receipt: (receipt.sources[0], receipt.spans[0].span.row_start)):
        if not receipt.has_rejects:
            continue
        with open_rejects(store.rejects_path(receipt.part)) as file:
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                yield from batch.to_pylist()


def describe_reject(reject: dict[str, Any]) -> str:
    """Return where a rejected row is and why, in one line: source:row, reason, detail."""
    return f"{in_one_line(reject['source'])}:{reject['row']}, {reject['reason']}, {in_one_line(reject['detail'])}"
