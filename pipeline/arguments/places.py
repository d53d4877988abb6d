"""Where the values of a config come from: the file and what named it, or a flag."""

from __future__ import annotations

import os
import re
from argparse import Namespace

from pipeline.arguments.shared import DEFAULT_CONFIG

KEY = re.compile(r"[a-z]+\.[a-z_]+")


def named_config(options: Namespace) -> tuple[str, str]:
    """Return the config that is asked for, and the variable that names it; "" where that is a flag or nothing."""
    named = "" if options.config else os.environ.get("EMBED_CONFIG", "")
    return options.config or named or DEFAULT_CONFIG, "$EMBED_CONFIG" if named else ""


def with_place(text: str, options: Namespace) -> str:
    """Return the words on a key of a config with where its value comes from in front; any other words as they are."""
    from pipeline.config import keys_of_tables
    from pipeline.tables import Places

    begin = KEY.match(text)
    table, _, key = begin[0].partition(".") if begin else ("", "", "")
    if begin is None or key not in keys_of_tables().get(table, ()) or not hasattr(options, "config"):
        return text
    flags = {override.partition("=")[0].strip(): "--set" for override in options.set}
    path, named_by = (f"model {options.model}", "") if options.model else named_config(options)
    if begin[0] not in flags and hasattr(options, "dataset") and not (options.config or options.model):
        return text  # the config is one of the dataset's model
    file = f"{path} ({named_by})" if named_by else path
    return Places(file=file, flags=flags).of(begin[0]) + text[begin.end() :]
