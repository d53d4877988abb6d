"""Vectors: cut, normalise, cast, check. Nothing leaves here that is not finite and of unit length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import BrokenEngineError, VectorError

MIN_NORM = 1e-15  # a shorter vector has no direction to speak of, and its squares leave float32
UNIT_TOLERANCE = 2e-3


def to_unit_float16(full: NDArray[np.floating], dim: int) -> NDArray[np.float16]:
    """Return the first `dim` components of each row of `full`, shape (n, width), as unit vectors in float16.

    Length is computed in float32 after the cut, so that a cut Matryoshka vector is again of unit length. To float16
    a component is rounded by at most 2**-11 of itself plus 2**-25: the length stays within UNIT_TOLERANCE of 1.
    Raises VectorError naming the first row that is not finite or whose cut has no length.
    """
    if full.ndim != 2 or full.shape[1] < dim:
        raise VectorError(f"engine output: expected shape (n, at least {dim}), found {full.shape}")
    cut = np.ascontiguousarray(full[:, :dim], dtype=np.float32)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(cut, axis=1, keepdims=True)
        bad = ~(np.isfinite(norms[:, 0]) & (norms[:, 0] >= MIN_NORM))
    if bad.any():
        row = int(bad.argmax())
        raise VectorError(f"engine output row {row}: expected a finite vector with length, found norm {norms[row, 0]}")
    unit = np.empty(cut.shape, np.float16)
    np.divide(cut, norms, out=unit, casting="unsafe")
    return unit


def to_unit_batch(full: NDArray[np.float32], token_ids: Sequence[Sequence[int]], dim: int) -> NDArray[np.float16]:
    """Return what `finish` makes of an engine's answer to n lists of token ids.

    Raises VectorError also for another number of vectors, and BrokenEngineError for one vector for different texts.
    """
    if full.ndim != 2 or len(full) != len(token_ids):
        raise VectorError(f"engine output: expected {len(token_ids)} vectors, found shape {full.shape}")
    unit = to_unit_float16(full, dim)
    if any(ids != token_ids[0] for ids in token_ids) and all(np.array_equal(vector, full[0]) for vector in full):
        raise BrokenEngineError(f"engine output: expected vectors to differ, found {len(full)} times the same one")
    return unit


def to_numpy(column: pa.ChunkedArray) -> NDArray[np.float16]:
    """Return the vectors of a part's column, shape (n, dim)."""
    vectors = column.combine_chunks()
    flat: NDArray[np.float16] = vectors.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(vectors), vectors.type.list_size)


def fixed_size_list(vectors: NDArray[np.float16]) -> pa.FixedSizeListArray:
    """Return vectors of shape (n, dim) as a part's column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float16()), vectors.shape[1])


def invalid_rows(vectors: NDArray[np.float16]) -> NDArray[np.bool_]:
    """Return for each row of `vectors`, shape (n, dim), whether it is not finite or not of unit length."""
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
    bad: NDArray[np.bool_] = ~(np.abs(norms - 1.0) <= UNIT_TOLERANCE)
    return bad
