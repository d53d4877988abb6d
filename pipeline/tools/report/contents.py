"""Contents: how long the passages of a dataset are, and what each of its shards came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset import Receipt, open_part, open_rejects
from pipeline.tools.passages import Passages

SEED = 0
MAX_PARTS = 1_000  # that are read, in two narrow columns
MAX_TOKENS = 1 << 17  # longer passages count as ones of this length
COLUMNS = ["source", "n_tokens"]


@dataclass(slots=True, kw_only=True)
class Shards:
    """Sums over the rows of each shard, by its source."""

    rows: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    is_exact: bool = True  # whether no part of several shards was shared out by their rows

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The shards, and how many passages of the parts that were read have 0, 1, 2 … tokens."""

    shards: Shards
    lengths: NDArray[np.int64]
    n_read: int  # parts
    n_parts: int


def contents(passages: Passages, receipts: list[Receipt]) -> Contents:
    """Return what the parts of a dataset hold, of which at most MAX_PARTS are read; `receipts` has them all.

    Raises DamageError for a part that cannot be read.
    """
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(receipts))[:MAX_PARTS])
    read = {receipts[index].part for index in chosen}
    shards, lengths = Shards(), np.zeros(MAX_TOKENS + 1, np.int64)
    for receipt in receipts:
        is_read, sources = receipt.part in read, receipt.sources
        tokens: Counter[str] = Counter()
        for batch in _batches(passages, receipt) if is_read else ():
            column = batch.column("n_tokens").fill_null(0).to_numpy(zero_copy_only=False)
            lengths += np.bincount(column.clip(0, MAX_TOKENS), minlength=MAX_TOKENS + 1)
            if len(sources) > 1:
                tokens.update(_sums(batch))
        if len(sources) == 1:
            _add(shards, receipt, {sources[0]: receipt.tokens}, {sources[0]: receipt.rejected_rows})
        elif is_read:
            _add(shards, receipt, tokens, _rejected(passages, receipt))
        else:
            _add(shards, receipt, _shared(receipt, receipt.tokens), _shared(receipt, receipt.rejected_rows))
            shards.is_exact = False
    return Contents(shards=shards, lengths=np.trim_zeros(lengths, "b"), n_read=len(read), n_parts=len(receipts))


def _batches(passages: Passages, receipt: Receipt) -> Iterator[pa.RecordBatch]:
    with open_part(passages.store.data_path(receipt.part), passages.dim) as file:
        yield from file.iter_batches(columns=COLUMNS, use_threads=False)


def _sums(batch: pa.RecordBatch) -> dict[str, int]:
    sums = pa.Table.from_batches([batch]).group_by("source").aggregate([("n_tokens", "sum")])
    return dict(zip(sums.column("source").to_pylist(), sums.column("n_tokens_sum").to_pylist(), strict=True))


def _rejected(passages: Passages, receipt: Receipt) -> Counter[str]:
    found: Counter[str] = Counter()
    if receipt.has_rejects:
        with open_rejects(passages.store.rejects_path(receipt.part)) as file:
            for batch in file.iter_batches(columns=["source"], use_threads=False):
                found.update(batch.column("source").to_pylist())
    return found


def _shared(receipt: Receipt, n: int) -> Counter[str]:
    """Return a number shared out over the shards of a part by their rows."""
    found: Counter[str] = Counter()
    for each in receipt.spans:
        found[each.source] += round(n * each.span.n_rows / max(1, receipt.n_rows))
    return found


def _add(shards: Shards, receipt: Receipt, tokens: Mapping[str, int], rejected: Mapping[str, int]) -> None:
    if len(receipt.sources) == 1:
        shards.rows[receipt.sources[0]] += receipt.input_rows
    else:
        for each in receipt.spans:
            shards.rows[each.source] += each.span.n_rows - each.span.n_blank
    shards.tokens.update(tokens)
    shards.rejected.update(rejected)
