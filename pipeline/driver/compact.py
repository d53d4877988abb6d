"""Compact: join the small parts of a dataset into parts as a run makes them, without an engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.chunk import MAX_CHUNK_SPANS, ChunkSize, Shard, Span
from pipeline.dataset import (
    Manifest,
    Receipt,
    Store,
    Transaction,
    check_ours,
    copy_spans,
    open_dataset,
    sweep,
    totals,
    width_of,
    write_card,
)
from pipeline.driver.contents import contents_of, receipts_in
from pipeline.driver.size import measured_speed, size_of
from pipeline.errors import UsageError

TOKEN_BYTES = 4  # of text; a receipt does not tell more


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What became of the parts of a dataset."""

    parts_before: int
    parts: int
    joined: int  # parts that are in others now
    rows: int


def compact(store: Store) -> Compacted:
    """Join the small parts of a dataset; those of at least half the size of a chunk stay as they are.

    The joined parts wait in the staging folder until all are there, as in a run that replaces parts: one that is killed
    leaves the dataset as it was, and the next run or compaction drops what it had made. Memory is bounded by one part.
    Raises UsageError for a folder that is no dataset and where a run has not finished, OutputLockedError while one is
    at work, and DamageError for a part that cannot be read; the dataset is then as before.
    """
    check_ours(store)
    open_dataset(store)
    with store.lock():
        store.reload()
        sweep(store)
        manifest, unnamed = _at_rest(store)
        receipts = list(manifest.receipts.values())
        groups = list(_groups(receipts, _size(manifest)))
        joined = {receipt.part for group in groups for receipt in group}
        if not (joined or unnamed) or manifest.dataset is None or manifest.run is None:
            return _compacted(receipts, receipts, n_joined=0)
        change = Transaction(store=store, dataset=manifest.dataset, replaces=True)
        place = change.place.without_commits()
        made = [copy_spans(store, [(receipt, receipt.spans) for receipt in group], place) for group in groups]
        store.commit()
        after = [*(receipt for receipt in receipts if receipt.part not in joined), *made]
        new = {receipt.part for receipt in made}
        old = (joined | {receipt.part for receipt in unnamed}) - new
        change.commit(manifest.run, after, list(manifest.seen.values()), new=new, old=old)
        write_card(store, manifest.dataset, totals(after))
        store.commit()
    return _compacted(receipts, after, n_joined=len(joined))


def _at_rest(store: Store) -> tuple[Manifest, list[Receipt]]:
    """Return the manifest, and the parts that a compaction left which was killed in its swap.

    Raises UsageError where a run has not finished, or has parts that are in no manifest.
    """
    found = contents_of(store)
    manifest = found.manifest
    named = _rows_of(manifest.receipts.values())
    fingerprint = manifest.dataset.fingerprint if manifest.dataset else ""
    staging = store.staging(fingerprint)
    staged = [receipt for each in receipts_in(staging, staging.read_manifest()) for receipt in each]
    are_copies = _rows_of([*staged, *found.unnamed]) <= named
    is_whole = len(found.named) == len(manifest.receipts)
    if manifest.run is None or manifest.run.state == "started" or not (are_copies and is_whole):
        raise UsageError(
            f"dataset {store.root}: expected one that a run has finished, found one that a run left in its middle; "
            "run again first"
        )
    return manifest, found.unnamed


def _rows_of(receipts: Iterable[Receipt]) -> set[tuple[Shard, Span]]:
    return {(each.shard, each.span) for receipt in receipts for each in receipt.spans}


def _size(manifest: Manifest) -> ChunkSize:
    sums = totals(manifest.receipts.values())
    dim = width_of(manifest.dataset) if manifest.dataset else 1
    speed = measured_speed(manifest.receipts.values())
    return size_of(sums["tokens"], sums["input_rows"], sums["tokens"] * TOKEN_BYTES, dim, speed)


def _groups(receipts: Iterable[Receipt], size: ChunkSize) -> Iterable[Sequence[Receipt]]:
    """Yield the small parts in groups of a chunk's size, in the order of their rows; a part with no other stays."""
    alike: dict[tuple[str, str, str, tuple[str, ...]], list[Receipt]] = defaultdict(list)
    for receipt in sorted(receipts, key=lambda each: (each.spans[0].source, each.spans[0].span.row_start)):
        if 2 * receipt.tokens < size.tokens and 2 * receipt.n_rows < size.rows:
            settings = (receipt.fingerprint, receipt.column_settings, receipt.root, tuple(sorted(receipt.kinds)))
            alike[settings].append(receipt)
    for small in alike.values():
        group: list[Receipt] = []
        for receipt in small:
            if group and not _fits([*group, receipt], size):
                yield from [group] if len(group) > 1 else []
                group = []
            group.append(receipt)
        yield from [group] if len(group) > 1 else []


def _fits(group: Sequence[Receipt], size: ChunkSize) -> bool:
    return (
        sum(receipt.tokens for receipt in group) <= size.tokens
        and sum(receipt.n_rows for receipt in group) <= size.rows
        and sum(len(receipt.spans) for receipt in group) <= MAX_CHUNK_SPANS
    )


def _compacted(before: Sequence[Receipt], after: Sequence[Receipt], *, n_joined: int) -> Compacted:
    rows = sum(receipt.input_rows for receipt in after)
    return Compacted(parts_before=len(before), parts=len(after), joined=n_joined, rows=rows)
