"""Texts: whether the passages that a part has are those that its offsets and its hashes are of."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.schema import TEXT

HASH_BYTES = 16


def with_next(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | None]]:
    """Yield each batch with the one after it; with None the last."""
    return itertools.pairwise(itertools.chain(batches, [None]))


def text_problems(batch: pa.RecordBatch, after: pa.RecordBatch | None, first: int) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the texts of a batch, whose entries are numbered from `first` on.

    Each has to be as long as its offsets say, and one that is a whole row has to have its hash; the hash of a row that
    was cut or split is of more than a passage of it has.
    """
    texts = batch.column(TEXT.name)
    if texts.null_count:
        yield "null", f"{texts.null_count} nulls in column {TEXT.name}"
        return
    start, stop, passage = (_numbers(batch.column(name)) for name in ("char_start", "char_end", "passage"))
    n_chars = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    if (wrong := n_chars != stop - start).any():
        at = int(wrong.argmax())
        yield "text", f"entry {first + at} has {n_chars[at]:,} characters, its offsets say {stop[at] - start[at]:,}"
    goes_on = int(after is not None and len(after) > 0 and after.column("passage")[0].as_py() == 1)
    is_cut = batch.column("truncated").fill_null(pa.scalar(True)).to_numpy(zero_copy_only=False)
    whole = np.flatnonzero((passage == 0) & (np.append(passage[1:], goes_on) != 1) & (start == 0) & ~is_cut)
    found = _hashes(texts.take(pa.array(whole)))
    said = batch.column("content_hash").take(pa.array(whole)).to_pylist()
    if found != said:
        at = next(at for at, digest in enumerate(found) if digest != said[at])
        yield "text", f"entry {first + int(whole[at])} has another text than that of its content hash"


def _hashes(texts: pa.Array) -> list[bytes]:
    binary = texts.cast(pa.binary()).to_pylist()
    return [hashlib.blake2b(text, digest_size=HASH_BYTES).digest() for text in binary]


def _numbers(column: pa.Array) -> NDArray[np.int64]:
    found: NDArray[np.int64] = column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found
