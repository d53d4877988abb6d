"""Inputs: what was named, one place or several that are read as one."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.corpus.listing import Listing

Input = str | Sequence[str]  # files, folders, globs, or one address of the hub


def each_of(input: Input) -> tuple[str, ...]:
    """Return the places that were named."""
    return (input,) if isinstance(input, str) else tuple(input)


def in_words(input: Input) -> str:
    """Return one place as it is, and several as they are typed."""
    return input if isinstance(input, str) else input[0] if len(input) == 1 else shlex.join(input)


def joined(listings: Sequence[Listing]) -> Listing:
    """Return the listing of all files of several inputs, each once, by their paths below the folder of all of them."""
    if len(listings) == 1:
        return listings[0]
    roots = [os.path.abspath(each.root) for each in listings]  # noqa: PTH100  a link keeps the name it was given
    root = os.path.commonpath(roots)
    names: dict[str, str] = {}  # by where the file is
    for each, own in zip(listings, roots, strict=True):
        below = os.path.relpath(own, root)
        for name, place in each.places.items():
            names.setdefault(place, name if below == "." else f"{below}/{name}")
    places = {name: place for place, name in sorted(names.items(), key=lambda each: each[1])}
    left_out: Counter[str] = sum((each.left_out for each in listings), Counter())
    return Listing(root=Path(root), places=places, left_out=left_out)
