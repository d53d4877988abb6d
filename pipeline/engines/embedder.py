"""Embedders: what an engine is, and the one of a config. An engine's own file is imported when the engine is made."""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ENGINES, Config
from pipeline.engines.golden import check_golden


class Embedder(Protocol):
    """A loaded model. It is called from the thread that made it, and from no other."""

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector of the model's full width for each list of token ids, shape (n, width)."""
        ...


@runtime_checkable
class Sleeper(Embedder, Protocol):
    """An embedder that can free the accelerator's memory for a snapshot of the process."""

    def sleep(self) -> None:
        """Let go of the accelerator's memory, before a snapshot of the process is taken."""
        ...

    def wake(self) -> None:
        """Take back what `sleep` let go of."""
        ...


@runtime_checkable
class Closer(Embedder, Protocol):
    """An embedder whose memory does not come back by itself when it is no longer used."""

    def close(self) -> None:
        """Let go of the memory of host and accelerator."""
        ...


def make_embedder(config: Config) -> Embedder:
    """Load the configured engine and hold it against the reference vectors of its model, where there are any.

    Raises EngineError when it does not start or gives other vectors, and ConfigError for a checkpoint that is not as
    the config says.
    """
    engine = ENGINES[config.engine.kind]
    embedder: Embedder = resolve_name(engine.make)(config)
    if engine.needs_weights:
        check_golden(config, embedder.embed)
    return embedder
