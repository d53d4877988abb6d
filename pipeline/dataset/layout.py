"""The layout of an output: its folders and files are its own, never links to somewhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.dataset.lock import NAME
from pipeline.errors import DamageError, UsageError
from pipeline.files import kind_of, names_in

NEXT = ".next"  # below the output: what waits for the swap, a folder for each recipe
TRASH = ".trash"  # below the output: what a repair dropped
PROGRESS = ".progress"  # below the output: how far its run is, or was when it was stopped
ATTEMPTS = ".attempts"  # below the output: a file for each chunk that is being embedded
FOLDERS = ("data", "rejects")  # of parts and of rejected rows
FINGERPRINT = re.compile(r"[0-9a-f]{16}")


def check_layout(root: Path, error: type[UsageError | DamageError]) -> None:
    """Raise an error for a folder of an output that is a link or a file, or a lock that is no file; root may be one."""
    for path, expected in _layout(root):
        if (found := kind_of(path)) not in (expected, ""):
            raise error(
                f"output {root}: expected {path.relative_to(root)} to be {expected} of its own, found {found}; nothing "
                "was touched, put back what it stands for or move it away"
            )


def staged(root: Path) -> list[str]:
    """Return the fingerprints of the recipes whose parts wait for a swap."""
    return [name for name in names_in(root / NEXT) if FINGERPRINT.fullmatch(name)]


def _layout(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield where something may be and what it has to be, each folder before what is in it."""
    for name in (NAME, PROGRESS):
        yield root / name, "a file"
    for name in (*FOLDERS, NEXT, TRASH, ATTEMPTS):
        yield root / name, "a folder"
    for name in FOLDERS:
        yield root / TRASH / name, "a folder"
    for fingerprint in staged(root):
        yield root / NEXT / fingerprint, "a folder"
        for name in (*FOLDERS, "ready"):
            yield root / NEXT / fingerprint / name, "a folder"
