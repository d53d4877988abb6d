"""Small wrong changes of the code that carries promises, a file for each area; each has a test that notices it."""

from __future__ import annotations

from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent


class Mutant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wrong change: `old`, which is in its file exactly once, becomes `new`."""

    id: str
    wrong: str  # in words
    file: str
    old: str
    new: str
    tests: tuple[str, ...]  # arguments of pytest
    survives: str = ""  # why no test can see it; "" where one has to


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...] = ()


def read_mutants() -> dict[str, tuple[Mutant, ...]]:
    """Return the mutants of every area; raises msgspec.ValidationError for a table that is none."""
    return {
        path.stem: msgspec.toml.decode(path.read_bytes(), type=_Table).mutant for path in sorted(FOLDER.glob("*.toml"))
    }
