"""The reader's own config for a dataset: which one it is, and whether it makes the vectors that the dataset has.

A dataset comes from anybody. Its manifest says what the model is, and nothing of it is taken for the code, the path or
the revision to load: a commit of the hub that somebody proposed is as much a revision as one of its owner's.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pipeline.config import ENGINES, Config, Dtype, load_config
from pipeline.console import in_one_line
from pipeline.dataset import Dataset, width_of
from pipeline.errors import ConfigError, RecipeError, UsageError
from pipeline.recipe import recipe
from pipeline.shipped import find_config, shipped_configs

# Of the recipe: what a query's vector has to have in common with those of the passages.
COMPARED = ("model.name", "model.dtype", "model.pooling", "model.max_tokens", "model.document_prompt")
QUERY_PROMPT = "model.query_prompt"  # not of the recipe, as it changes no stored vector


def own_config(dataset: Dataset, asked: Path | Config | None, overrides: Sequence[str] = ()) -> Config:
    """Return the config of a file, else that of the dataset's model, with the dtype and the width of the dataset.

    A Config is one that has its overrides. That of a model is $EMBED_CONFIG or a shipped one. Raises UsageError where
    there is none, RecipeError with the keys that differ from those of the dataset, ConfigError as `load_config` does
    and EngineError for a model that is not to be had.
    """
    from pipeline.model import pinned, settle_dtype, this_device

    width, found = width_of(dataset), dataset.recipe
    config, place = (asked, "") if isinstance(asked, Config) else _loaded(asked, found.get("model.name"), overrides)
    kind = _engine_of(dataset)
    if asked is None and kind and not ENGINES[kind].needs_weights and not _is_said("engine.kind", overrides):
        config = replace(config, engine=replace(config.engine, kind=kind))  # it loads no model: no file, no code of one
    if config.model.dtype == "auto":
        kept = next((dtype for dtype in get_args(Dtype) if dtype == found.get("model.dtype")), None)
        config = settle_dtype(config, this_device(), kept=kept)
    _refuse(_differences(dataset, config, width, overrides), place)
    if ENGINES[config.engine.kind].needs_weights:
        config = replace(config, model=pinned(config.model))
    _refuse(_differing(found, config, ("model.revision",)), place)
    return replace(config, run=replace(config.run, dim=width))


def _loaded(path: Path | None, name: object, overrides: Sequence[str]) -> tuple[Config, str]:
    """Return the config of a file, else of the model of a name, and where that is where a variable names it."""
    chosen, named_by = (path, "") if path else _config_of(name)
    return load_config(chosen, overrides, named_by=named_by), f", in {chosen} ({named_by})" if named_by else ""


def _config_of(name: object) -> tuple[Path, str]:
    """Return the path of the config whose model has a name, and the variable that names it; else a shipped one."""
    asked, places = os.environ.get("EMBED_CONFIG"), [(path, "") for path in shipped_configs().values()]
    if asked:
        with contextlib.suppress(ConfigError):
            places.insert(0, (find_config(asked), "$EMBED_CONFIG"))
    for path, named_by in places:
        with contextlib.suppress(OSError, ValueError, RecursionError):  # `--config` says what is wrong with it
            model = tomllib.loads(path.read_text(encoding="utf-8")).get("model")
            if isinstance(model, dict) and model.get("name") == name:
                return path, named_by
    tried = f"in {asked} ($EMBED_CONFIG) or " if asked else ""
    raise UsageError(
        f"search: expected the config of the model that made the dataset, {_shown(name)}, found none of that name "
        f"{tried}among those that are shipped; --model or --config names it"
    )


def _engine_of(dataset: Dataset) -> str:
    """Return the engine that a recipe names; "" for one that there is not."""
    return next((kind for kind in ENGINES if kind == dataset.recipe.get("engine.kind")), "")


def _differences(dataset: Dataset, config: Config, width: int, overrides: Sequence[str]) -> Iterator[str]:
    """Yield in words which keys differ, the revision left out, which is known later."""
    yield from _differing(dataset.recipe, config, COMPARED)
    theirs = _engine_of(dataset)
    # Engines that load a model agree on its vectors.
    if not theirs or ENGINES[theirs].needs_weights != ENGINES[config.engine.kind].needs_weights:
        yield _in_words("engine.kind", dataset.recipe.get("engine.kind"), config.engine.kind)
    if width > config.model.dims[0]:
        yield _in_words("run.dim", width, f"at most {config.model.dims[0]}")
    model = dataset.config.get("model")
    prompt = model.get("query_prompt", "") if isinstance(model, dict) else config.model.query_prompt
    if prompt != config.model.query_prompt and not _is_said(QUERY_PROMPT, overrides):
        yield _in_words(QUERY_PROMPT, prompt, config.model.query_prompt)


def _differing(found: dict[str, Any], config: Config, keys: Sequence[str]) -> Iterator[str]:
    ours = recipe(config)
    return (_in_words(key, found.get(key), ours[key]) for key in keys if found.get(key) != ours[key])


def _in_words(key: str, theirs: object, ours: object) -> str:
    return f"{key} is {_shown(theirs)} in the dataset and {_shown(ours)} here"


def _refuse(differences: Iterator[str], place: str) -> None:
    if found := list(differences):
        raise RecipeError(
            f"search: expected a config that makes the vectors of the dataset, found that {'; '.join(found)}{place}. "
            "Name the config that it was made with by --config, or set these keys by --set if you trust where it comes "
            "from"
        )


def _shown(value: object) -> str:
    text = in_one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 200 else f"{text[:200]}…"


def _is_said(key: str, overrides: Sequence[str]) -> bool:
    return any(override.partition("=")[0].strip() == key for override in overrides)
