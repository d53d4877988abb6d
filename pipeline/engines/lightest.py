"""The lightest engine for a few texts: of those that give the vectors of a model, the one that is ready soonest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pkgutil import resolve_name

from pipeline.config import ENGINES, Config
from pipeline.console import note
from pipeline.engines.embedder import Embedder, is_installed, make_embedder
from pipeline.errors import EngineError


def make_lightest(config: Config) -> Embedder:
    """Load the engine that starts soonest and gives the vectors of the configured one.

    The reference vectors of the model decide what is equal, as for every engine. One line says why a slower one has to
    be loaded. Raises what the slowest raises when none loads, and ConfigError as `make_embedder` does.
    """
    if not ENGINES[config.engine.kind].needs_weights:
        return make_embedder(config)
    reasons: list[str] = []
    *lighter, last = _candidates(config)
    for candidate in lighter:
        kind = candidate.engine.kind
        if reason := _refusal(candidate):
            reasons.append(f"{kind} {reason}")
            continue
        try:
            return make_embedder(candidate)
        except EngineError as error:
            reasons.append(f"{kind} did not load: {error}")
    if reasons:
        note(f"loading {last.engine.kind}, which starts more slowly: {'; '.join(reasons)}")
    return make_embedder(last)


def _candidates(config: Config) -> Iterator[Config]:
    """Yield the config with each engine that is no slower to start than its own, which comes last."""
    own = ENGINES[config.engine.kind]
    for kind in sorted(ENGINES, key=lambda kind: ENGINES[kind].starts_in_s):
        if ENGINES[kind].needs_weights and ENGINES[kind].starts_in_s < own.starts_in_s:
            yield replace(config, engine=replace(config.engine, kind=kind))
    yield config


def _refusal(config: Config) -> str:
    """Return in words why an engine cannot take a config; "" where nothing is known that speaks against it."""
    engine = ENGINES[config.engine.kind]
    if engine.package and not is_installed(engine.package):
        return "is not installed"
    found = resolve_name(engine.refuses)(config) if engine.refuses else ""
    return f"does not take {found}" if found else ""
