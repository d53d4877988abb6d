"""Removal: the rows that a run would take out of a dataset, and how many may go without a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.chunk import ShardSpan
from pipeline.corpus import ChunkReader
from pipeline.dataset import Receipt, Store, open_part, rows_within
from pipeline.driver.carry import carried
from pipeline.driver.plan import Plan
from pipeline.errors import CorpusError, DamageError, RemovalError
from pipeline.schema import PART, content_hashes

Keys = NDArray[np.uint64]  # hashes of ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The embedded rows that a run would take out of a dataset: neither their id nor their text is in what joins it."""

    rows: int
    sources: tuple[str, ...]  # the files that they are of
    of_rows: int  # that the dataset has
    leaves_none: bool  # whether it has no row afterwards
    is_exact: bool  # else that many at most

    def is_within(self, max_removed: float) -> bool:
        """Whether so large a share of the rows may go, and not the last of them."""
        return not self.rows or (self.rows <= max_removed * self.of_rows and not self.leaves_none)

    def in_words(self) -> str:
        """Return how many rows go and of which files."""
        more = f" and {len(self.sources) - 3:,} more" if len(self.sources) > 3 else ""
        most = "" if self.is_exact else "at most "
        return f"{most}{self.rows:,} of its {self.of_rows:,} rows, of {', '.join(self.sources[:3])}{more}"


def check_removal(plan: Plan, store: Store, max_removed: float) -> Removal:
    """Return what a run would remove; raises RemovalError when that is more than may go.

    The rows of the input are read only where the parts in question have too many rows to let all of them go.
    """
    found = removal(plan, store, is_exact=False)
    if found.is_within(max_removed):
        return found
    found = removal(plan, store)
    if found.is_within(max_removed):
        return found
    raise RemovalError(
        f"output {store.root}: expected at most {max_removed:.0%} of the rows to leave (run.max_removed), found "
        f"{found.in_words()}; nothing was changed. Name the whole --input, keep the rows of files that are gone with "
        "--keep-missing, or let them go with --prune"
    )


def removal(plan: Plan, store: Store, *, is_exact: bool = True) -> Removal:
    """Return what a run would remove; without `is_exact` every row of the parts in question, and no file is read."""
    inventory, members = plan.inventory, _members(plan)
    shards = {shard.source: shard for shard in plan.readable}

    def stays(receipt: Receipt, each: ShardSpan) -> bool:
        shard = shards.get(each.source)
        if shard is None:
            return each.source in inventory.unread.get(receipt.part, ())
        return not plan.options.rehash and inventory.manifest.is_current(receipt, each, shard)

    leaving = {
        receipt.part: [each for each in receipt.spans if not stays(receipt, each)]
        for receipt in inventory.stale
        if receipt.part in members and receipt.embedded_rows
    }
    suspects = [receipt for receipt in inventory.stale if leaving.get(receipt.part)]
    rows = sum(min(receipt.embedded_rows, _n_rows(leaving[receipt.part])) for receipt in suspects)
    sources = sorted({each.source for receipt in suspects for each in leaving[receipt.part]})
    if is_exact and rows:
        rows, sources = _gone(suspects, plan, store)
    return Removal(
        rows=rows,
        sources=tuple(sources),
        of_rows=sum(receipt.embedded_rows for receipt in members.values()),
        leaves_none=not plan.chunks and not any(receipt.embedded_rows for receipt in inventory.kept.values()),
        is_exact=is_exact or not rows,
    )


def _members(plan: Plan) -> dict[str, Receipt]:
    """Return the parts that the dataset has now: those of its manifest, or all where it names none."""
    inventory = plan.inventory
    named = inventory.manifest.receipts
    parts = {receipt.part: receipt for receipt in (*inventory.kept.values(), *inventory.stale)}
    return {part: parts[part] for part in parts.keys() - inventory.staged if part in named or not named}


def _gone(suspects: Sequence[Receipt], plan: Plan, store: Store) -> tuple[int, list[str]]:
    """Return how many rows of these parts are nowhere in the dataset to be, and the files that they are of."""
    found = [_of_part(store, receipt) for receipt in suspects]
    ids, id_of = np.unique(np.concatenate([_keys(rows.column("id")) for rows in found]), return_inverse=True)
    texts, text_of = np.unique(np.concatenate([_texts(rows) for rows in found]), return_inverse=True)
    source_of = np.concatenate([rows.column("source").to_numpy() for rows in found])
    has_id, has_text = np.zeros(len(ids), bool), np.zeros(len(texts), bool)
    for new_ids, new_texts in _coming(plan, store):
        _mark(has_id, ids, new_ids)
        _mark(has_text, texts, new_texts)
    is_gone = ~has_id[id_of] & ~has_text[text_of]
    return int(is_gone.sum()), sorted(set(source_of[is_gone]))


def _coming(plan: Plan, store: Store) -> Iterator[tuple[Keys, NDArray[np.bytes_]]]:
    """Yield ids and texts of the rows that join the dataset: of chunks to be made, and of parts made before."""
    inventory, members = plan.inventory, _members(plan)
    staging = store.staging(inventory.dataset.fingerprint)
    for receipt in inventory.kept.values():
        if receipt.part not in members:
            rows = _of_part(staging if receipt.part in inventory.staged else store, receipt)
            yield _keys(rows.column("id")), _texts(rows)
    for receipt, spans in carried(inventory):
        table = _of_part(staging if receipt.part in inventory.staged else store, receipt)
        for each in spans:
            rows = rows_within(table, each)
            yield _keys(rows.column("id")), _texts(rows)
    with ChunkReader() as reader:
        for chunk in plan.chunks:
            try:
                coming = reader.read(plan.corpus.root, plan.corpus.columns, chunk.spans)
            except CorpusError:  # the worker meets the same error and reports it
                continue
            yield _keys(pa.array(coming.id, pa.string())), np.array(content_hashes(coming.text), "S16")


def _of_part(store: Store, receipt: Receipt) -> pa.Table:
    """Return the rows of a part, without their vectors; none of a damaged one, whose rows are lost already."""
    names = ["id", "source", "row", "passage", "content_hash"]
    try:
        with open_part(store.data_path(receipt.part)) as file:
            table = file.read(names, use_threads=False)
    except DamageError:
        return pa.schema([PART.field(name) for name in names]).empty_table()
    return table.filter(pc.equal(table.column("passage"), 0))


def _n_rows(spans: Iterable[ShardSpan]) -> int:
    return sum(each.span.n_rows for each in spans)


def _texts(rows: pa.Table) -> NDArray[np.bytes_]:
    return np.array(rows.column("content_hash").to_pylist(), "S16")


def _keys(ids: pa.ChunkedArray | pa.Array) -> Keys:
    from pandas.util import hash_array

    return hash_array(np.array(ids.to_pylist(), object), categorize=False)


def _mark(is_there: NDArray[np.bool_], distinct: NDArray[np.generic], values: NDArray[np.generic]) -> None:
    """Set `is_there` for each of the `distinct` values, in rising order, that is among `values`."""
    at = np.searchsorted(distinct, values)
    inside = at < len(distinct)
    is_there[at[inside][distinct[at[inside]] == values[inside]]] = True
