"""Parts: the columns of the one Parquet file that a chunk becomes, and of the file of its rejected rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.corpus import ChunkRows, Reject
from pipeline.model import Passages
from pipeline.schema import EMBEDDING, PART, PASSAGE, REJECTS, TEXT
from pipeline.vectors import fixed_size_list

PASSAGES = pa.schema([pa.field("text", pa.int64()), *PASSAGE])  # of distinct texts, by the number of the text


def part_table(
    rows: ChunkRows,
    hashes: Sequence[bytes],
    passages: pa.Table,
    of_row: NDArray[np.int64],
    of_passage: NDArray[np.int64],
    vectors: NDArray[np.float16],
    *,
    has_text: bool,
) -> pa.Table:
    """Return the table of a part: entry i is passage `of_passage[i]`, with vector `vectors[of_passage[i]]`, of row
    `of_row[i]`; `passages` has the columns of PASSAGES and `vectors` the shape (passages, dim).

    `has_text`: with the passages themselves, which are slices of the texts of the rows.
    """
    at_row = pa.array(of_row)
    of_rows = {"id": rows.id, "source": rows.source, "row": rows.row, "content_hash": hashes}
    columns = {name: pa.array(values, PART.field(name).type).take(at_row) for name, values in of_rows.items()}
    of_passages = passages.select(PASSAGE.names).combine_chunks().take(pa.array(of_passage))
    columns |= {name: of_passages.column(name) for name in PASSAGE.names}
    table = pa.table(columns).select(PART.names).cast(PART)
    if has_text:
        start, stop = (of_passages.column(name).to_numpy() for name in ("char_start", "char_end"))
        table = table.append_column(TEXT, _sliced(rows.text, of_row, start, stop))
    for name in rows.kept.column_names:
        table = table.append_column(name, rows.kept.column(name).take(at_row))
    if not np.array_equal(of_passage, np.arange(len(vectors))):
        vectors = vectors[of_passage]
    return table.append_column(EMBEDDING, fixed_size_list(vectors))


def _sliced(
    texts: Sequence[str], of_row: NDArray[np.int64], start: NDArray[np.int32], stop: NDArray[np.int32]
) -> pa.ChunkedArray:
    """Return for each entry the characters [start, stop) of the text of its row; Arrow copies those that are whole."""
    whole = pa.chunked_array([texts], TEXT.type)
    n_chars = pc.utf8_length(whole).to_numpy()
    cut = np.flatnonzero((start > 0) | (stop < n_chars[of_row]))
    places = zip(of_row[cut].tolist(), start[cut].tolist(), stop[cut].tolist(), strict=True)
    pieces = pa.chunked_array([[texts[row][first:end] for row, first, end in places]], TEXT.type)
    at = of_row.copy()
    at[cut] = len(texts) + np.arange(len(cut))
    return pa.chunked_array([*whole.chunks, *pieces.chunks], TEXT.type).take(pa.array(at))


def passage_table(passages: Passages, texts: Sequence[int]) -> pa.Table:
    """Return the columns of PASSAGES; `texts` gives the number of each text by its number in `passages`."""
    columns = [
        [texts[text] for text in passages.text],
        passages.passage,
        passages.start,
        passages.stop,
        [len(ids) for ids in passages.ids],
        passages.truncated,
    ]
    return pa.table(columns, schema=PASSAGES)


def rejects_table(rejects: Sequence[tuple[str, int, str, Reject]]) -> pa.Table | None:
    """Return the table of rejected rows in the order given, or None when there is none."""
    if not rejects:
        return None
    return pa.Table.from_pylist(
        [
            {"id": i, "source": source, "row": row, "reason": why.reason, "detail": why.detail, "text": why.text}
            for source, row, i, why in rejects
        ],
        REJECTS,
    )
