"""The canary: a few texts whose vectors an engine has to go on giving, because a wrong vector looks like any other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.engines.embedder import Embedder
from pipeline.errors import BrokenEngineError
from pipeline.model import make_tokenizer
from pipeline.vectors import to_unit_batch

TEXTS = (
    "The canary fell silent long before the miners noticed anything.",
    "Interest is paid on the first working day of each month.",
    "Wash the rice until the water runs clear, then let it rest.",
)
MIN_COSINE = 0.99  # to the first vector; bfloat16 and another batch move it by about 1e-3, another text by tenths


def canary_ids(config: Config) -> list[list[int]]:
    """Return the token ids of the canary's texts for the configured model."""
    tokenizer = make_tokenizer(config, max_tokens=config.model.max_tokens)
    return [windows[0].ids for windows in tokenizer.windows(TEXTS)]


class Canary:
    """Vectors of an engine that has just been loaded, to compare its later ones with.

    Each text is embedded alone, so that the engine does the same arithmetic every time. Raises BrokenEngineError
    when the engine fails at once or gives different texts the same vector.
    """

    def __init__(self, embedder: Embedder, token_ids: Sequence[Sequence[int]]) -> None:
        self._embedder = embedder
        self._first = [(ids, self._embed(ids)) for ids in token_ids]
        self._turns = itertools.cycle(self._first)
        if all(np.array_equal(vector, self._first[0][1]) for _, vector in self._first):
            raise BrokenEngineError(f"canary: expected {len(token_ids)} texts to differ, found one vector for all")

    def check(self) -> None:
        """Embed the text whose turn it is; raises BrokenEngineError when that fails or its vector has moved."""
        ids, first = next(self._turns)
        now = self._embed(ids)
        cosine = float(np.sum(now * first)) if now.shape == first.shape else 0.0
        if not cosine >= MIN_COSINE:
            raise BrokenEngineError(
                f"canary: expected the vector of a fixed text to stay (cosine of at least {MIN_COSINE}), found "
                f"{cosine:.3f}: the engine has gone wrong; nothing of this chunk was stored, run again"
            )

    def _embed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        try:
            full = self._embedder.embed([ids])
            return to_unit_batch(full, [ids], full.shape[-1]).astype(np.float32)
        except Exception as error:
            raise BrokenEngineError(
                f"canary: expected a vector for a fixed text, found: {error}: the engine has gone wrong; run again"
            ) from error
