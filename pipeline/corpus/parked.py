"""Parked: files that stay open where a chunk stopped in the middle, because the next chunk begins there."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

_parked: dict[Hashable, Any] = {}


def park(key: Hashable, reader: Any) -> None:
    """Keep a reader for whoever comes with the same key; the one that was kept before is closed."""
    release()
    _parked[key] = reader


def take(key: Hashable) -> Any:
    """Return the reader that was kept under a key, which is the caller's to close now; None when there is none."""
    return _parked.pop(key, None)


def release() -> None:
    """Close what is kept open: on a volume that is to be reloaded no file may be."""
    for key in list(_parked):
        reader = take(key)  # another thread may have taken it
        if reader is not None:
            reader.close()
