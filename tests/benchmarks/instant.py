"""An engine that answers at once: it looks a vector up by the first token of a text, and computes nothing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ENGINES, Config, EngineKind

KIND = "instant"
N_VECTORS = 4096  # that there are; texts share them


class InstantEmbedder:
    """The same few random vectors again and again."""

    def __init__(self, config: Config) -> None:
        self._vectors = vectors(config.model.dims[0])

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector for each list of token ids, shape (n, width)."""
        found: NDArray[np.float32] = self._vectors[[ids[0] % N_VECTORS for ids in token_ids]]
        return found


def vectors(width: int) -> NDArray[np.float32]:
    """Return the vectors there are, shape (N_VECTORS, width)."""
    return np.random.default_rng(0).standard_normal((N_VECTORS, width), np.float32)


def numbers(first_words: Iterable[str]) -> NDArray[np.int64]:
    """Return the number of the vector of each text, which depends on its first word alone."""
    return np.array([zlib.crc32(word.encode()) % N_VECTORS for word in first_words])


def offer() -> None:
    """Let configs of this process name the engine."""
    ENGINES[KIND] = EngineKind(
        make="tests.benchmarks.instant:InstantEmbedder", needs_weights=False, computes_in="float32"
    )
