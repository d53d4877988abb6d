"""Paths of a user below a mount: nothing outside it can be named, neither by `..` nor through a link."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.chunk import Shard
from pipeline.errors import UsageError


def check_relative(flag: str, path: str) -> str:
    """Return a path that stays below wherever it is put, without a trailing slash; raises UsageError."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts:
        raise UsageError(f"{flag} {path}: expected a path below the volume, such as wiki/, found one that leaves it")
    return str(pure)


def check_inside(mount: Path, root: Path, shards: Sequence[Shard]) -> None:
    """Raise UsageError for the first shard that a link leads out of the mount."""
    inside = mount.resolve()
    for shard in shards:
        path = root / shard.source
        if not Path(os.path.realpath(path)).is_relative_to(inside):  # Path.resolve gives up on a link to itself
            raise UsageError(
                f"--input {path.relative_to(mount)}: expected a file of the volume, found a link out of it"
            )
