"""The name of a shard: its path below the folder that was named first, whichever folder or file a later run names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.chunk import Shard


def root_key(root: Path) -> str:
    """Return 16 hex digits for the absolute path of a folder, which say nothing of that path."""
    return hashlib.blake2b(os.fsencode(_absolute(root)), digest_size=8).hexdigest()


def rebased(root: Path, shards: Sequence[Shard], known: Collection[str]) -> tuple[Path, list[Shard]]:
    """Return the nearest folder at or above `root` whose key is known, and the shards by their paths below it.

    Where none is known, the root and the shards are returned as they are.
    """
    absolute = _absolute(root)
    above = next((folder for folder in (absolute, *absolute.parents) if root_key(folder) in known), absolute)
    if above == absolute:
        return root, list(shards)
    below = absolute.relative_to(above).as_posix()
    return above, [replace(shard, source=f"{below}/{shard.source}") for shard in shards]


def folders_below(root: Path, shards: Iterable[Shard], known: Collection[str]) -> Mapping[str, str]:
    """Return, by its key, the path below `root` of each folder of shards whose key is known."""
    if not known:
        return {}
    nearest = {shard.source.rpartition("/")[0] for shard in shards} - {""}
    folders = {str(folder) for each in nearest for folder in PurePosixPath(each, "file").parents} - {"."}
    return {key: folder for folder in sorted(folders) if (key := root_key(root / folder)) in known}


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  a link keeps the name it was given
