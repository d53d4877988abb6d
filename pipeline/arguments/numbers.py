"""Numbers as people type them: 1000, 1_000, 1e3."""

from __future__ import annotations

import argparse


def whole(text: str) -> int:
    """Return a whole number; raises ArgumentTypeError saying what was expected and found."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        number = 0.5
    if not number.is_integer() or abs(number) > 2**53:
        raise argparse.ArgumentTypeError(f"expected a whole number, such as 1000 or 1e3, found {text!r}")
    return int(number)


def positive(text: str) -> int:
    """Return a whole number of at least 1; raises ArgumentTypeError for any other text."""
    if (number := whole(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, found {text}")
    return number
