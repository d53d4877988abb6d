"""Compare the parts of a shard with its file: ids, kept columns and text hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chunk import Shard, make_chunk
from pipeline.corpus import ChunkReader, Columns, Corpus, Rows
from pipeline.dataset import Receipt, Store, open_part, open_rejects
from pipeline.errors import CorpusError, DamageError
from pipeline.schema import EMBEDDING, LATER_REASONS, PASSAGE, REJECTS, kept_name
from pipeline.worker import content_hashes, rejects_table

FOUND_BY_THE_READER = ("id", "row", "reason", "text")  # of a rejected row


def unchanged(
    corpus: Corpus, shard: Shard, receipts: Sequence[Receipt], store: Store, reader: ChunkReader
) -> Iterator[str]:
    """Yield the names of parts whose rows equal the file's: ids, kept columns, text hashes.

    Lines have no fixed place: from the first difference on, a file of lines has no unchanged part.
    """
    rows_have_places = corpus.reader(shard).rows_have_places
    next_row = 0
    for receipt in sorted(receipts, key=lambda receipt: receipt.span.row_start):
        in_place = rows_have_places or receipt.span.row_start == next_row
        if in_place and _is_unchanged(corpus, shard, receipt, store, reader):
            next_row = receipt.span.row_stop
            yield receipt.part
        elif not rows_have_places:
            return


def _is_unchanged(corpus: Corpus, shard: Shard, receipt: Receipt, store: Store, reader: ChunkReader) -> bool:
    chunk = make_chunk(shard, receipt.span, receipt.fingerprint, last=receipt.last)
    try:
        rows = reader.read(corpus.root, _columns_of(receipt, corpus.columns, store), chunk)
        if rows.n_rows != receipt.input_rows or receipt.last != corpus.reader(shard).ends_at(receipt.span):
            return False
        if {name: sorted(found) for name, found in rows.kinds.items()} != receipt.kinds:
            return False
        return _holds(receipt, rows, store)
    except CorpusError:  # the file is shorter now, or damaged: the worker reports it
        return False
    except DamageError:  # a damaged part is not what the file says
        return False


def _columns_of(receipt: Receipt, columns: Columns, store: Store) -> Columns:
    """Return columns with the types that a part has its kept ones in."""
    if not columns.keep:
        return columns
    with open_part(store.data_path(receipt.part)) as file:
        schema = file.schema_arrow
        if missing := [name for name in map(kept_name, columns.keep) if schema.names.count(name) != 1]:
            raise DamageError(f"{store.data_path(receipt.part)}: expected column {missing[0]} once; it was kept")
    return columns.typed(dict(zip(schema.names, schema.types, strict=True)))


def _holds(receipt: Receipt, rows: Rows, store: Store) -> bool:
    with open_part(store.data_path(receipt.part)) as file:
        names = [name for name in file.schema_arrow.names if name != EMBEDDING]
        entries = file.read(names, use_threads=False)
    rejected = REJECTS.empty_table()
    if receipt.has_rejects:
        with open_rejects(store.rejects_path(receipt.part)) as file:
            rejected = file.read(use_threads=False)
    early = rejects_table(receipt.source, rows.rejects) or REJECTS.empty_table()
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
    found = entries.filter(pc.equal(entries.column("passage"), 0))
    others = [(rows.id[at], rows.text[at]) for at in np.flatnonzero(~is_embedded)]
    named = list(zip(later.column("id").to_pylist(), later.column("text").to_pylist(), strict=True))
    return others == named and found.drop_columns(["source", *PASSAGE.names]).equals(expected)
