"""A transaction: a run's change to a dataset begins, adds parts and commits; until then readers see the old dataset."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.dataset.manifest import Dataset, Line, Manifest, Receipt, Run, Seen
from pipeline.dataset.store import Store
from pipeline.errors import CorpusError
from pipeline.files import is_file, move_file, publish_file, read_file, remove_file, sync_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """The change of one run.

    A run that only adds parts adds them to the dataset at once. One that replaces parts adds them to a staging folder,
    and all of them join in the swap of `commit`.
    """

    store: Store
    dataset: Dataset  # as the run makes it
    replaces: bool

    @property
    def staging(self) -> Store:
        """The folder where parts of this recipe wait."""
        return self.store.staging(self.dataset.fingerprint)

    @property
    def place(self) -> Store:
        """Where the run adds its parts."""
        return self.staging if self.replaces else self.store

    def begin(
        self, found: Manifest, record: Run, kept: Mapping[str, Receipt], seen: Mapping[str, Seen], *, adds: bool
    ) -> None:
        """Write down that a run is at work; a run that replaces nothing also drops what the manifest should not name.

        `found` is the manifest as it was, `kept` and `seen` are what stays of it. A manifest that says just that is
        added to, by a run that adds parts; it is written anew where it names what is gone or has a torn line.
        """
        if self.replaces and found.dataset is not None and not found.n_unreadable:
            self.store.append(record)
        elif self.replaces:
            lines: list[Line] = [found.dataset or self.dataset, *found.seen.values(), *found.receipts.values()]
            self.store.rewrite_manifest([*lines, record])
        elif not self._is_current(found, kept, seen):
            self.store.rewrite_manifest([self.dataset, *seen.values(), *kept.values(), record])
        elif adds:
            if found.dataset != self.dataset:  # a setting that is not of the recipe
                self.store.append(self.dataset)
            self.store.append(record)

    def add(self, receipt: Receipt) -> None:
        """Name a published part in the manifest of its place."""
        self.place.append(receipt)

    def commit(
        self,
        record: Run,
        receipts: Iterable[Receipt],
        seen: Sequence[Seen],
        *,
        new: Collection[str],
        old: Collection[str],
    ) -> None:
        """Let the dataset be these receipts: parts named `new` come from the staging folder, parts named `old` go."""
        if self.replaces:
            _swap(self.store, self.staging, [self.dataset, *seen, *receipts, record], new=new, old=old)
            return
        self.store.append(record)
        for part in old:
            self.store.remove(part)
        _drop(self.staging)

    def _is_current(self, found: Manifest, kept: Mapping[str, Receipt], seen: Mapping[str, Seen]) -> bool:
        if found.dataset is None or found.dataset.fingerprint != self.dataset.fingerprint or found.n_unreadable:
            return False
        return (found.receipts, found.seen) == (kept, seen)


def _swap(store: Store, staging: Store, lines: Iterable[Line], *, new: Collection[str], old: Collection[str]) -> None:
    """Move the staged parts of these names in, make `lines` the manifest and remove the old parts; the caller commits.

    A reader that goes by the manifest sees every row once at each moment: a part is there before the manifest names it
    and as long as it does. A run that dies in between loses nothing. The next run finishes the swap: it finds the new
    parts by their footers in either folder, and the old ones without a row of the input.
    """
    for part in new:
        store.volume.check_held()
        rejects = staging.rejects_path(part)
        if is_file(rejects):  # copied before the part moves: so it is whole in either place
            publish_file(store.rejects_path(part), pa.py_buffer(read_file(rejects)), store.volume.check_held)
        else:
            remove_file(store.rejects_path(part))
        store.volume.check_held()
        move_file(staging.data_path(part), store.data_path(part))
    sync_folder(store.root / "data")
    store.rewrite_manifest(lines)
    for part in old:
        store.remove(part)
    _drop(staging)


def _drop(staging: Store) -> None:
    """Remove a staging folder whose parts have joined the dataset, with everything in it."""
    staging.volume.check_held()
    shutil.rmtree(staging.root, ignore_errors=True)


def save_prefilled(staging: Store, name: str, vectors: pa.Table) -> None:
    """Keep vectors for a chunk until it is embedded."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, vectors.schema) as writer:
        writer.write_table(vectors)
    publish_file(_prefilled_path(staging, name), sink.getvalue(), staging.volume.check_held)


def load_prefilled(staging: Store, name: str) -> pa.Table:
    """Return the vectors that were kept for a chunk; raises CorpusError when they are not seen here (yet)."""
    path = _prefilled_path(staging, name)
    with staging.volume.writing:  # an open file would be in the way of a commit
        try:
            return pa.ipc.open_file(read_file(path)).read_all()
        except FileNotFoundError as error:
            raise CorpusError(f"{path}: expected the vectors that the run saved, found none; run again") from error
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(f"{path}: expected the vectors that the run saved, found: {error}; run again") from error


def _prefilled_path(staging: Store, name: str) -> Path:
    return staging.root / "ready" / f"{name}.arrow"
