"""Engines turn token ids into full-width vectors. One protocol, three makers; heavy imports wait until one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.engines.golden import check_golden


class Embedder(Protocol):
    """A loaded model. It is called from the thread that made it, and from no other."""

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector of the model's full width for each list of token ids, shape (n, width)."""
        ...

    def sleep(self) -> None:
        """Let go of the accelerator's memory where the engine can, before a snapshot of the process is taken."""
        ...

    def wake(self) -> None:
        """Take back what `sleep` let go of."""
        ...


def make_embedder(config: Config) -> Embedder:
    """Load the configured engine and hold it against the reference vectors of its model, where there are any.

    Raises EngineError when it does not start or gives other vectors, and ConfigError for a checkpoint that is not as
    the config says.
    """
    if config.engine.kind == "hashing":
        from pipeline.engines.hashing import HashingEmbedder

        return HashingEmbedder(config.model.dims[0])
    engine = _load(config)
    check_golden(config, engine.embed)
    return engine


def _load(config: Config) -> Embedder:
    if config.engine.kind == "sentence-transformers":
        from pipeline.engines.sentence_transformers import SentenceTransformersEmbedder

        return SentenceTransformersEmbedder(config)
    from pipeline.engines.vllm import VLLMEmbedder

    return VLLMEmbedder(config)
