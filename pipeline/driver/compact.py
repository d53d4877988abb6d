"""Compact: join the small parts of a dataset into parts as a run makes them, without an engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.chunk import MAX_CHUNK_SPANS, ChunkSize, Shard, ShardSpan, Span
from pipeline.dataset import (
    Dataset,
    Manifest,
    Receipt,
    Run,
    Store,
    Transaction,
    check_ours,
    check_whole,
    copy_spans,
    open_dataset,
    open_part,
    sweep,
    totals,
    width_of,
    write_card,
)
from pipeline.driver.contents import contents_of
from pipeline.driver.size import measured_speed, size_of
from pipeline.errors import DamageError, UsageError
from pipeline.recipe import fingerprint

TOKEN_BYTES = 4  # of text; a receipt does not tell more


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What became of the parts of a dataset."""

    parts_before: int
    parts: int
    joined: int  # parts that are in others now
    rows: int
    size_bytes: int  # of the parts
    damaged: tuple[str, ...]  # in words, for each part that was left as it is because it is damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class _AtRest:
    """A dataset that no run has left in its middle."""

    dataset: Dataset
    run: Run
    manifest: Manifest
    receipts: list[Receipt]  # of the parts that it names, in the order of the corpus
    unnamed: list[Receipt]  # of parts beside them with rows of these: a swap that was killed left them


def compact(store: Store) -> Compacted:
    """Join neighbouring small parts of a dataset; those of at least half the size of a chunk stay unopened.

    The joined parts wait in the staging folder until all are there, as in a run that replaces parts: one that is killed
    leaves the dataset as it was, and the next run or compaction drops what it had made. Memory is bounded by one part.
    A damaged part stays where it is, and no other is joined across it.
    Raises UsageError for a folder that is no dataset and where a run has not finished, OutputLockedError while one is
    at work, and DamageError for a manifest that contradicts itself; the dataset is then as before.
    """
    check_ours(store)
    open_dataset(store)
    with store.lock():
        store.reload()
        sweep(store)
        found = _at_rest(store)
        size, dim = _size(found), width_of(found.dataset)
        change = Transaction(store=store, dataset=found.dataset, replaces=True)
        place, damaged, made, joined = change.place.without_commits(), list[str](), list[Receipt](), set[str]()
        for group in _groups(_looked_at(store, found.receipts, size, damaged), size, dim):
            made.append(copy_spans(store, _in_order(group), place, keeps_work=True))
            joined |= {receipt.part for receipt in group}
        after = sorted([*(receipt for receipt in found.receipts if receipt.part not in joined), *made], key=_place)
        if joined or found.unnamed or change.staging.root.exists():
            store.commit()
            new = {receipt.part for receipt in made}
            old = (joined | {receipt.part for receipt in found.unnamed}) - new
            change.commit(found.run, after, list(found.manifest.seen.values()), new=new, old=old)
            write_card(store, found.dataset, totals(after))
            store.commit()
    return Compacted(
        parts_before=len(found.receipts),
        parts=len(after),
        joined=len(joined),
        rows=sum(receipt.input_rows for receipt in after),
        size_bytes=sum(receipt.size_bytes for receipt in after),
        damaged=tuple(damaged),
    )


def _at_rest(store: Store) -> _AtRest:
    """Return what there is; raises DamageError for a recipe of another fingerprint, UsageError for an unfinished run.

    What waits for a swap, or is in no manifest, is then a copy that a compaction made. After a run that ended
    incomplete it may be what was paid for.
    """
    found = contents_of(store)
    manifest = found.manifest
    dataset, run = manifest.dataset, manifest.run
    if dataset is not None and dataset.fingerprint != fingerprint(dataset.recipe):
        raise DamageError(
            f"{store.manifest_path}: expected the recipe of fingerprint {dataset.fingerprint}, found another; "
            "move it away and run again: the parts say what they are"
        )
    if dataset is not None and run is not None and run.state != "started":
        staging = store.staging(dataset.fingerprint)
        are_copies = _rows_of([*contents_of(staging).receipts, *found.unnamed]) <= _rows_of(found.named)
        if are_copies and (run.state == "complete" or not (found.unnamed or staging.root.exists())):
            own = {receipt.part: receipt for receipt in found.named}  # right, where the manifest contradicts itself
            receipts = sorted((manifest.receipts | own).values(), key=_place)
            return _AtRest(dataset=dataset, run=run, manifest=manifest, receipts=receipts, unnamed=found.unnamed)
    raise UsageError(
        f"dataset {store.root}: expected one that a run has finished, found one that a run left in its middle; "
        "run again first"
    )


def _rows_of(receipts: Iterable[Receipt]) -> set[tuple[Shard, Span]]:
    return {(each.shard, each.span) for receipt in receipts for each in receipt.spans}


def _place(receipt: Receipt) -> tuple[str, str, int]:
    """Return where a part is in the corpus; parts of another folder are apart."""
    first = receipt.spans[0]
    return receipt.root, first.source, first.span.row_start


def _size(found: _AtRest) -> ChunkSize:
    sums = totals(found.receipts)
    n_bytes = sums["tokens"] * TOKEN_BYTES
    return size_of(sums["tokens"], sums["input_rows"], n_bytes, width_of(found.dataset), measured_speed(found.receipts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """A part, and what tells whether it may be joined with its neighbours."""

    receipt: Receipt
    kind: tuple[object, ...] | None = None  # equal in parts that may be joined; None of one that stays
    size_bytes: int = 0  # unpacked


def _looked_at(store: Store, receipts: Iterable[Receipt], size: ChunkSize, damaged: list[str]) -> Iterator[_Looked]:
    """Look into the small parts; adds to `damaged` in words what is wrong with those that are not whole."""
    for receipt in receipts:
        if 2 * receipt.tokens >= size.tokens or 2 * receipt.n_rows >= size.rows:
            yield _Looked(receipt=receipt)
            continue
        try:
            check_whole(store, receipt)
            schema, size_bytes = _within(store, receipt)
        except DamageError as error:
            damaged.append(str(error))
            yield _Looked(receipt=receipt)
            continue
        settings = (
            receipt.fingerprint,
            receipt.column_settings,
            receipt.has_text,
            receipt.root,
            *sorted(receipt.kinds),
        )
        yield _Looked(receipt=receipt, kind=(schema, *settings), size_bytes=size_bytes)


def _within(store: Store, receipt: Receipt) -> tuple[pa.Schema, int]:
    """Return the columns of a part, and the bytes of their values."""
    with open_part(store.data_path(receipt.part)) as file:
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        return file.schema_arrow.remove_metadata(), sum(group.total_byte_size for group in groups)


def _groups(looked: Iterable[_Looked], size: ChunkSize, dim: int) -> Iterator[list[Receipt]]:
    """Yield neighbours that are alike in groups of a chunk's size; a part with no such neighbour stays."""
    most_bytes = size.size_bytes + 2 * dim * size.rows  # of text and vectors
    for kind, alike in itertools.groupby(looked, key=lambda each: each.kind):
        group: list[Receipt] = []
        tokens = rows = spans = size_bytes = 0
        for each in alike if kind is not None else ():
            receipt = each.receipt
            tokens, rows = tokens + receipt.tokens, rows + receipt.n_rows
            spans, size_bytes = spans + len(receipt.spans), size_bytes + each.size_bytes
            has_room = tokens <= size.tokens and rows <= size.rows
            if not (has_room and spans <= MAX_CHUNK_SPANS and size_bytes <= most_bytes):
                yield from [group] if len(group) > 1 else []
                group = []
                tokens, rows, spans, size_bytes = receipt.tokens, receipt.n_rows, len(receipt.spans), each.size_bytes
            group.append(receipt)
        yield from [group] if len(group) > 1 else []


def _in_order(group: Sequence[Receipt]) -> list[tuple[Receipt, list[ShardSpan]]]:
    """Return the spans of parts in the order of the corpus, those together that follow one another in a part."""
    spans = [(receipt, each) for receipt in group for each in receipt.spans]
    spans.sort(key=lambda item: (item[1].source, item[1].span.row_start))
    by_part = itertools.groupby(spans, key=lambda item: item[0].part)
    found = [list(of_part) for _, of_part in by_part]
    return [(of_part[0][0], [each for _, each in of_part]) for of_part in found]
