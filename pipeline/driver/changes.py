"""Compare parts with the files of their shards: ids, kept columns and text hashes."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chunk import ShardSpan
from pipeline.corpus import ChunkReader, Columns, Corpus, Reader
from pipeline.dataset import Receipt, Store, open_part, open_rejects, rows_within
from pipeline.errors import CorpusError, DamageError
from pipeline.schema import EMBEDDING, LATER_REASONS, PASSAGE, REJECTS, TEXT, content_hashes, kept_name
from pipeline.worker import rejects_table

FOUND_BY_THE_READER = ("id", "row", "reason", "text")  # of a rejected row


def unchanged(corpus: Corpus, suspects: Sequence[Receipt], store: Store, reader: ChunkReader) -> Iterator[str]:
    """Yield the names of parts, given in the order of the corpus, whose rows equal the files': ids, kept columns, text
    hashes. Of files that are not in the corpus nothing is read.

    Lines have no fixed place: from the first difference on, a file of lines has no unchanged rows.
    """
    shards = {shard.source: shard for shard in corpus.shards}
    next_row: dict[str, int] = defaultdict(int)
    for receipt in suspects:
        spans = [replace(each, shard=shards[each.source]) for each in receipt.spans if each.source in shards]
        kinds: dict[str, set[str]] = defaultdict(set)
        is_same = True
        with contextlib.suppress(DamageError):  # a damaged part is not what the files say
            part = _Part.read(store, receipt, corpus.columns) if spans else None
            for each in spans:
                own = corpus.reader(each.shard)
                in_place = own.rows_have_places or each.span.row_start == next_row[each.source]
                if part is not None and in_place and _holds(part, each, corpus.root, own, reader, kinds):
                    next_row[each.source] = each.span.row_stop
                else:
                    is_same = False
            if is_same and _has_kinds(receipt, kinds, is_all=len(spans) == len(receipt.spans)):
                yield receipt.part


def _has_kinds(receipt: Receipt, found: Mapping[str, set[str]], *, is_all: bool) -> bool:
    said = {name: set(kinds) for name, kinds in receipt.kinds.items()}
    if is_all:
        return said == dict(found)
    return all(found[name] <= said.get(name, set()) for name in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What a part says, without its vectors, and without its texts, of which it has the hashes."""

    columns: Columns  # with the types that it has the kept ones in
    entries: pa.Table
    rejected: pa.Table
    has_one_span: bool

    @classmethod
    def read(cls, store: Store, receipt: Receipt, columns: Columns) -> _Part:
        with open_part(store.data_path(receipt.part), has_text=receipt.has_text) as file:
            unread = {EMBEDDING, TEXT.name} if receipt.has_text else {EMBEDDING}
            names = [name for name in file.schema_arrow.names if name not in unread]
            entries = file.read(names, use_threads=False)
        rejected = REJECTS.empty_table()
        if receipt.has_rejects:
            with open_rejects(store.rejects_path(receipt.part)) as file:
                rejected = file.read(use_threads=False)
        columns = _columns_of(receipt, columns, store)
        return cls(columns=columns, entries=entries, rejected=rejected, has_one_span=len(receipt.spans) == 1)

    def of(self, each: ShardSpan) -> tuple[pa.Table, pa.Table]:
        """Return the entries and the rejected rows of a span."""
        if self.has_one_span:
            return self.entries, self.rejected
        return rows_within(self.entries, each), rows_within(self.rejected, each)


def _columns_of(receipt: Receipt, columns: Columns, store: Store) -> Columns:
    """Return columns with the types that a part has its kept ones in."""
    if not columns.keep:
        return columns
    with open_part(store.data_path(receipt.part)) as file:
        schema = file.schema_arrow
        if missing := [name for name in map(kept_name, columns.keep) if schema.names.count(name) != 1]:
            raise DamageError(f"{store.data_path(receipt.part)}: expected column {missing[0]} once; it was kept")
    return columns.typed(dict(zip(schema.names, schema.types, strict=True)))


def _holds(
    part: _Part, each: ShardSpan, root: Path, own: Reader, reader: ChunkReader, kinds: dict[str, set[str]]
) -> bool:
    """Whether a part has a span's rows as its file has them; adds what they have in kept columns to `kinds`."""
    try:
        rows = reader.read(root, part.columns, [each])
        if each.last != own.ends_at(each.span):
            return False
    except CorpusError:  # the file is shorter now, or damaged: the worker reports it
        return False
    for name, found in rows.kinds.items():
        kinds[name].update(found)
    entries, rejected = part.of(each)
    early = rejects_table(rows.in_order()) or REJECTS.empty_table()
    is_later = pc.invert(pc.is_in(rejected.column("row"), value_set=early.column("row")))
    if not rejected.filter(pc.invert(is_later)).select(FOUND_BY_THE_READER).equals(early.select(FOUND_BY_THE_READER)):
        return False
    later = rejected.filter(is_later)
    if not {*later.column("reason").to_pylist()} <= {*LATER_REASONS}:
        return False
    is_embedded = ~np.isin(np.array(rows.row, np.int64), later.column("row").to_numpy())
    expected = pa.table(
        {
            "id": pa.array(rows.id, pa.string()),
            "row": pa.array(rows.row, pa.int64()),
            "content_hash": pa.array(content_hashes(rows.text), pa.binary(16)),
            **{name: rows.kept.column(name) for name in rows.kept.column_names},
        }
    ).filter(pa.array(is_embedded))
    found_rows = entries.filter(pc.equal(entries.column("passage"), 0))
    others = [(rows.id[at], rows.text[at]) for at in np.flatnonzero(~is_embedded)]
    named = list(zip(later.column("id").to_pylist(), later.column("text").to_pylist(), strict=True))
    return others == named and found_rows.drop_columns(["source", *PASSAGE.names]).equals(expected)
