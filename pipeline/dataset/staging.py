"""Staging: parts that wait beside a dataset, vectors laid ready for them, and the swap that lets them join."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa

from pipeline.dataset.manifest import Line
from pipeline.dataset.store import Store
from pipeline.errors import CorpusError
from pipeline.files import move_file, publish_file, remove_file, sync_folder


def swap(store: Store, staging: Store, lines: Iterable[Line], *, new: Collection[str], old: Collection[str]) -> None:
    """Move the staged parts of these names in, make `lines` the manifest and remove the old parts; the caller commits.

    Whoever reads by the manifest sees every row once at each moment: parts are there before it names them, and until
    it no longer does. A run that dies in between has lost nothing, and the next one finishes the swap: it finds the
    new parts by their footers wherever they are, and the old ones without a row of the input.
    """
    for part in new:
        rejects = staging.rejects_path(part)
        if rejects.exists():  # copied before the part moves: so it is whole in either place
            publish_file(store.rejects_path(part), pa.py_buffer(rejects.read_bytes()))
        else:
            remove_file(store.rejects_path(part))
        move_file(staging.data_path(part), store.data_path(part))
    sync_folder(store.root / "data")
    store.rewrite_manifest(lines)
    for part in old:
        store.remove(part)
    drop(staging)


def drop(staging: Store) -> None:
    """Remove a staging folder whose parts have joined the dataset, with what else lies in it."""
    shutil.rmtree(staging.root, ignore_errors=True)


def lay_ready(staging: Store, name: str, vectors: pa.Table) -> None:
    """Keep vectors for a chunk until it is embedded."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, vectors.schema) as writer:
        writer.write_table(vectors)
    publish_file(_ready_path(staging, name), sink.getvalue())


def read_ready(staging: Store, name: str) -> pa.Table:
    """Return the vectors that were kept for a chunk; raises CorpusError when they are not seen here (yet)."""
    path = _ready_path(staging, name)
    with staging.volume.writing:  # an open file would be in the way of a commit
        try:
            return pa.ipc.open_file(path.read_bytes()).read_all()
        except FileNotFoundError as error:
            raise CorpusError(f"{path}: expected the vectors that the run laid ready, found none; run again") from error


def _ready_path(staging: Store, name: str) -> Path:
    return staging.root / "ready" / f"{name}.arrow"
