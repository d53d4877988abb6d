"""Embedders: what an engine is, and the one of a config. An engine's own file is imported when the engine is made."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ENGINES, Config
from pipeline.engines.golden import check_golden
from pipeline.errors import EngineError
from pipeline.shipped import how_to_install

OF_GPUS = {"vllm": " (for an NVIDIA GPU the extra `cuda` instead)"}


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


def check_installed(kind: str) -> None:
    """Raise EngineError with what to install when the package of an engine is not there; imports nothing."""
    package = ENGINES[kind].package
    if not package or is_installed(package):
        return
    others = [name for name, other in ENGINES.items() if other.needs_weights and is_installed(other.package)]
    instead = f", or --set engine.kind={others[0]}, which is installed" if others else ""
    raise EngineError(
        f"engine.kind {kind}: expected the package {package}, found none; {how_to_install(kind)}{OF_GPUS.get(kind, '')}"
        f"{instead}"
    )


def default_kind() -> str:
    """Return the engine of a model that has no config: the first that is installed, vLLM where none is."""
    loading = [name for name, engine in ENGINES.items() if engine.needs_weights]
    return next((name for name in loading if is_installed(ENGINES[name].package)), loading[0])


def is_installed(package: str) -> bool:
    """Whether a package can be imported; imports nothing."""
    return importlib.util.find_spec(package) is not None


def make_embedder(config: Config) -> Embedder:
    """Load the configured engine and hold it against the reference vectors of its model, where there are any.

    Raises EngineError when it does not start or gives other vectors, and ConfigError for a checkpoint that is not as
    the config says.
    """
    engine = ENGINES[config.engine.kind]
    check_installed(config.engine.kind)
    embedder: Embedder = resolve_name(engine.make)(config)
    if engine.needs_weights:
        check_golden(config, embedder.embed)
    return embedder
