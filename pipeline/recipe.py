"""The recipe: exactly those settings of a config that make two datasets different, their fingerprint, and what of a
config is handed on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.config import MAX_DIM, Config

CUT = "paragraphs, sentences, words"  # how a long text is split; earlier versions, which did not say, counted tokens
OF_THIS_MACHINE = ("location", "golden", "trust_remote_code")  # keys of [model] that choose a path or code


def recipe(config: Config) -> dict[str, Any]:
    """Return exactly the settings that can change a stored vector, by key."""
    model, corpus = config.model, config.corpus
    is_split = corpus.on_long == "split"
    return {
        "model.name": model.name,
        "model.revision": model.revision,
        "model.dtype": model.dtype,
        "model.pooling": model.pooling,
        "model.max_tokens": model.max_tokens,
        "model.document_prompt": model.document_prompt,
        "engine.kind": config.engine.kind,
        "corpus.text": corpus.text,
        "corpus.on_long": corpus.on_long,
        "corpus.overlap": corpus.overlap if is_split else 0,
        **({"passages.cut": CUT} if is_split else {}),
        "run.dim": config.dim,
        "vector.dtype": "float16",
        "vector.norm": "l2",
    }


def dim_of(recipe: Mapping[str, Any]) -> int:
    """Return the width of the vectors of a recipe; 0 where it says none that there can be."""
    dim = recipe.get("run.dim")
    return dim if isinstance(dim, int) and not isinstance(dim, bool) and 0 < dim <= MAX_DIM else 0


def column_settings(config: Config, types: Mapping[str, object]) -> str:
    """Return what chooses ids, kept columns and their `types`, all of which can change without an engine."""
    of_kept = [{name: str(kind) for name, kind in types.items()}] if types else []
    return json.dumps([config.corpus.id, *config.corpus.kept, *of_kept])


def has_columns_of(settings: str, config: Config) -> bool:
    """Whether column settings have the columns of a config, whatever the types of the kept ones."""
    columns = column_settings(config, {})
    return settings.startswith(columns[:-1] + ", {") if config.corpus.kept else settings == columns


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change if and only if a setting of the recipe does."""
    canonical = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def portable(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables of a config without what means something on one machine alone, for a dataset that is handed on."""
    model = tables.get("model")
    kept = {key: value for key, value in model.items() if key not in OF_THIS_MACHINE} if isinstance(model, dict) else {}
    return {**tables, "model": kept}
