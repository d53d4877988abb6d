"""A notice: one line on stderr for whoever started a run."""

from __future__ import annotations

import sys


def notice(text: str) -> None:
    """Write a line."""
    sys.stderr.write(f"embed-corpus: {text}\n")
