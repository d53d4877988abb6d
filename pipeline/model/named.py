"""A config worked out of a model's own files: each value with the file that says it, and what no file says by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config, configure
from pipeline.errors import ConfigError, EngineError
from pipeline.model.card import CARD, name_of
from pipeline.model.files import SETTINGS
from pipeline.shipped import shipped_configs
from pipeline.tables import parse_override, read_tables

# What no file may say, and how it is answered.
ASKED = {
    "pooling": "mean|last|cls",
    "max_tokens": "512",
    "document_prompt": "'passage: '",
    "query_prompt": "'query: '",
    "licence": "MIT",
}
STEP_TOKENS = 8192  # of one step of the engine; more where a single text may have more
CACHE_BYTES = 1 << 28  # at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A config for a model that was named, and where each key of [model] comes from."""

    config: Config
    sources: dict[str, str]
    shipped: Path | None = None  # the file, for a model that has a config already


def read_named(
    name: str, overrides: Sequence[str] = (), *, kind: str, dim: int | None = None, allow_untrained_dim: bool = False
) -> Named:
    """Return a config for a model of the hub or a folder; that of a shipped model is the shipped one.

    `kind` is the engine of any other. Raises ConfigError naming all that no file says and no override gives, and as
    `load_config` does; EngineError for a model that is not to be had.
    """
    options: dict[str, Any] = {"dim": dim, "allow_untrained_dim": allow_untrained_dim}
    said = {key: value for table, key, value in map(parse_override, overrides) if table == "model"}
    folder = Path(name).expanduser()
    if not folder.is_dir() and (shipped := _shipped(name)):
        tables = read_tables(shipped, f"config {shipped}")
        config = configure(tables, overrides, where=str(shipped), **options)
        return Named(config=config, sources={}, shipped=shipped)
    if folder.is_dir():
        facts = _here(folder)
    else:
        facts = _on_the_hub(name, str(said.pop("revision", "main")))
        overrides = [override for override in overrides if parse_override(override)[:2] != ("model", "revision")]
    found = {key: (value, source) for key, value, source in facts if key not in said}
    missing = [key for key in ASKED if key not in found and key not in said]
    if missing:
        raise ConfigError(
            f"model {name}: expected {', '.join(f'model.{key}' for key in missing)}, found in none of its files; give "
            f"each as the model's card has it: {' '.join(f'--set model.{key}={ASKED[key]}' for key in missing)}"
        )
    tables = {"model": {key: value for key, (value, _) in found.items()}}
    tables |= {"engine": _engine(kind, tables["model"] | said)}
    config = configure(tables, overrides, where=f"model {name}", **options)
    return Named(config=config, sources={key: source for key, (_, source) in found.items()})


def _shipped(name: str) -> Path | None:
    """Return the shipped config of a model; raises ConfigError for what is no model."""
    if name in shipped_configs():
        raise ConfigError(f"model {name}: expected a model, found the name of a config; say --config {name}")
    if name.startswith((".", "/", "~")):
        raise ConfigError(f"model {name}: expected a folder with the model, or a name of the hub, found neither")
    for path in shipped_configs().values():
        if str(read_tables(path, f"config {path}")["model"]["name"]).lower() == name.lower():
            return path
    return None


def _engine(kind: str, model: dict[str, Any]) -> dict[str, Any]:
    """Return [engine] for a model: a step, and a cache for its tokens in float32, that hold any one text."""
    most, of_token = model["max_tokens"], model.get("kv_bytes_per_token")
    step = max(STEP_TOKENS, most) if isinstance(most, int) else STEP_TOKENS
    cache = max(CACHE_BYTES, 2 * step * of_token) if isinstance(of_token, int) else CACHE_BYTES
    return {"kind": kind, "max_num_batched_tokens": step, "kv_cache_bytes": cache}


def _here(folder: Path) -> Iterator[tuple[str, Any, str]]:
    """Yield what a folder says; its revision is the digest of its weights."""
    from pipeline.model.facts import facts_of
    from pipeline.model.weights import read_weights

    weights = read_weights(folder)
    if weights is None:
        raise EngineError(f"model {folder}: expected weights as .safetensors, found none")
    yield "name", name_of(folder), f"{CARD}, or the name of the folder"
    yield "location", str(folder.resolve()), "--model"
    yield "revision", "main", "the digest of the weights"
    yield from facts_of(folder, weights)


def _on_the_hub(name: str, revision: str) -> Iterator[tuple[str, Any, str]]:
    """Yield what the files of a model of the hub say, at the commit that a branch is now."""
    from pipeline.model import hub
    from pipeline.model.facts import facts_of
    from pipeline.model.weights import count, read_weights

    commit = hub.resolve(name, revision)
    folder = hub.fetch(name, commit, (*SETTINGS, CARD))
    yield "name", name, "--model"
    yield "revision", commit, f"{revision} of the hub, as it is now"
    yield from facts_of(folder, read_weights(folder) or count(hub.read_shapes(name, commit)))
