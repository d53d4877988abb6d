"""An engine without a model: vectors that depend on the token ids alone, the same on every machine. For tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config


class HashingEmbedder:
    """Spreads a digest of the token ids over the model's width with SplitMix64 (Steele, Lea and Flood, 2014)."""

    def __init__(self, config: Config) -> None:
        self._steps = np.arange(1, config.model.dims[0] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return components in [-1, 1), shape (n, width)."""
        digests = b"".join(
            hashlib.blake2b(np.asarray(ids, np.int64).tobytes(), digest_size=8).digest() for ids in token_ids
        )
        state = np.frombuffer(digests, "<u8")[:, None] + self._steps
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
        vectors: NDArray[np.float32] = (state >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
        return vectors
