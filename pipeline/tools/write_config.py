"""A config as a file that a person goes on with: every value with the place that it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from pipeline.config import Config, to_tables
from pipeline.console import in_one_line

# What a file has beside [model] and whatever else is not as it is by default.
ABOUT = {
    "engine.kind": "vllm | sentence-transformers | hashing (no model, for tests)",
    "engine.max_num_seqs": "sequences in one step of the engine",
    "engine.max_num_batched_tokens": "tokens in one step of the engine",
    "engine.kv_cache_bytes": "bytes; 0 leaves it to gpu_memory_utilization",
    "engine.batch_passages": "passages handed to the engine in one call",
    "corpus.text": 'a column, a dotted path into a struct, or a template such as "{title}\\n{body}"',
    "corpus.id": 'the id column; "" takes `id` where there is one, else <source>:<row>',
    "corpus.keep": "columns copied to the output",
    "corpus.on_long": "passages over max_tokens: truncate | split | reject",
    "run.dim": "width of the stored vectors; 0 is the model's full width",
}
RARE = ("location", "golden", "licence_notice", "trust_remote_code")  # of [model]: written where they say something
NOT_SAID = "no file says it: as it is by default"
SAID = "--set"


def write_config(config: Config, sources: Mapping[str, str]) -> str:
    """Return a config as commented TOML, which `load_config` reads as an equal one.

    `sources` has, for keys of [model], where their values come from.
    """
    name = in_one_line(config.model.name)
    lines = [f"# {name}: every value of [model] with where it comes from. Hold it against the model's card."]
    for table, values in to_tables(config).items():
        default = _defaults(table)
        comments = {}
        for key, value in values.items():
            changed = key not in default or value != default[key]
            about = ABOUT.get(f"{table}.{key}")
            if table == "model" and (changed or key not in RARE):
                comments[key] = sources.get(key) or (SAID if changed else NOT_SAID)
            elif table != "model" and (changed or about):
                comments[key] = about or SAID
        if comments:
            lines += [
                "",
                f"[{table}]",
                *(f"{key} = {_toml(values[key])}  # {in_one_line(comments[key])}" for key in comments),
            ]
    return "\n".join(lines) + "\n"


def _defaults(table: str) -> dict[str, Any]:
    """Return the defaults of the keys of a table that have one, as plain values."""
    found = {}
    for each in fields(get_type_hints(Config)[table]):
        if each.default is not MISSING:
            found[each.name] = list(each.default) if isinstance(each.default, tuple) else each.default
        elif each.default_factory is not MISSING:
            found[each.name] = each.default_factory()
    return found


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    short = f"{value:.6g}".replace("e+0", "e").replace("e+", "e")
    return short if isinstance(value, float) and float(short) == value else repr(value)
