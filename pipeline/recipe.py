"""The recipe: exactly those settings of a config that make two datasets different, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.config import Config


def recipe(config: Config) -> dict[str, Any]:
    """Return exactly the settings that can change a stored vector, by key."""
    model, corpus = config.model, config.corpus
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
        "corpus.overlap": corpus.overlap if corpus.on_long == "split" else 0,
        "run.dim": config.dim,
        "vector.dtype": "float16",
        "vector.norm": "l2",
    }


def column_settings(config: Config, keep_as_text: Collection[str]) -> str:
    """Return what chooses ids, kept columns and their types, all of which can change without an engine."""
    as_text = [sorted(keep_as_text)] if keep_as_text else []
    return json.dumps([config.corpus.id, *config.corpus.keep, *as_text])


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change if and only if a setting of the recipe does."""
    canonical = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
