"""Quantise: a vector as one byte or one bit a component."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tools.passages import Vectors

N_STEPS = 255  # between the least and the greatest of 256 values


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What the int8 values of each component mean: `scale` times the value, plus `offset`. Both have shape (dim,)."""

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]


def calibrate(pieces: Iterable[Vectors]) -> Steps:
    """Return the steps that just span what each component has; of one vector at least."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for vectors in pieces:
        low, high = np.minimum(low, vectors.min(axis=0)), np.maximum(high, vectors.max(axis=0))
    scale = np.where(high > low, (high - low) / np.float32(N_STEPS), np.float32(1)).astype(np.float32)
    return Steps(scale=scale, offset=(low + 128 * scale).astype(np.float32))


def to_int8(vectors: Vectors, steps: Steps) -> NDArray[np.int8]:
    """Return the nearest step of each component."""
    nearest = np.rint((vectors - steps.offset) / steps.scale)
    codes: NDArray[np.int8] = np.clip(nearest, -128, 127).astype(np.int8)
    return codes


def from_int8(codes: NDArray[np.int8], steps: Steps) -> Vectors:
    """Return the components that int8 values mean."""
    vectors: Vectors = codes * steps.scale + steps.offset
    return vectors


def to_bits(vectors: Vectors) -> NDArray[np.uint8]:
    """Return for each component whether it is above 0: eight to a byte, the first in its highest bit, 0 to fill up."""
    return np.packbits(vectors > 0, axis=1)
