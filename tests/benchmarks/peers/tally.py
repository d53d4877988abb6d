"""Tally: how many texts an engine embedded and when, one line of a file each, which outlasts a kill.

A peer runs in an environment that has neither pipeline/ nor most of tests/: this file needs the standard library only.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

VARIABLE = "PEERS_TALLY"  # the path of the file; every process of a peer inherits it, and is found by it


def embedded(n_texts: int) -> None:
    """Add a number of texts that an engine has just embedded; 0 says that it is loaded."""
    line = f"{time.time()} {n_texts}\n".encode()
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)  # of several processes, none writes into another's line
    finally:
        os.close(file)


def counted(function: Callable[..., Any], count: Callable[..., int]) -> Callable[..., Any]:
    """Return a function that adds `count` of its arguments once it has returned."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        embedded(count(*arguments, **options))
        return found

    return call


def count_batches_of_sentence_transformers() -> None:
    """Add every batch that a SentenceTransformer of this process has embedded."""
    import sentence_transformers

    untyped: Any = sentence_transformers.SentenceTransformer

    def rows(model: Any, features: Any, *arguments: Any, **options: Any) -> int:
        return len(features["input_ids"])

    untyped.forward = counted(untyped.forward, rows)
