"""Export: a dataset in the format of another program. A format is one file and one entry of TARGETS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.dataset import Manifest, Store, status
from pipeline.errors import UsageError
from pipeline.files import kind_of
from pipeline.tools.export.binary import to_binary
from pipeline.tools.export.faiss import to_faiss
from pipeline.tools.export.int8 import to_int8_parquet
from pipeline.tools.export.lance import to_lance
from pipeline.tools.export.npy import to_npy
from pipeline.tools.export.parquet_f32 import to_parquet_f32
from pipeline.tools.export.pgvector import to_pgvector
from pipeline.tools.export.place import MADE_BY, published, write_about
from pipeline.tools.passages import Passages, passages_of

__all__ = ["TARGETS", "export"]

# Each writes a new file or folder; what it gets last is what a file says of itself.
TARGETS: dict[str, Callable[[Passages, Path, dict[str, Any]], None]] = {
    "parquet-f32": to_parquet_f32,
    "npy": to_npy,
    "lance": to_lance,
    "faiss": to_faiss,
    "pgvector": to_pgvector,
    "int8": to_int8_parquet,
    "binary": to_binary,
}


def export(store: Store, manifest: Manifest, target: str, destination: Path) -> dict[str, Any]:
    """Write a dataset in one of the formats of TARGETS, and return what the export says of itself.

    A piece of the dataset is in memory at a time. Raises UsageError for a destination that is no earlier export,
    DamageError for a part that cannot be read, and what else the format raises; the destination is untouched then.
    """
    if store.root.resolve() in (destination.resolve(), *destination.resolve().parents):
        raise UsageError(f"export {destination}: expected a DEST outside the dataset, found one in it; choose another")
    passages = passages_of(store, manifest)
    found = status(store, manifest)
    about = {
        "made_by": MADE_BY,
        "format": target,
        **{name: found[name] for name in ("state", "passages", "dim", "model", "revision", "fingerprint")},
    }
    with published(destination) as path:
        TARGETS[target](passages, path, about)
        if kind_of(path) == "a folder":
            write_about(path, about)
    return about
