"""The swap: parts that waited join the dataset, and those that they replace leave it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable

from pipeline.manifest import Line
from pipeline.store import Store, sync_folder


def swap(store: Store, staging: Store, lines: Iterable[Line], *, new: Collection[str], old: Collection[str]) -> None:
    """Move the staged parts of these names in, make `lines` the manifest and remove the old parts; the caller commits.

    Whoever reads by the manifest sees every row once at each moment: parts are there before it names them, and until
    it no longer does. A run that dies in between has lost nothing, and the next one finishes the swap: it finds the
    new parts by their footers wherever they are, and the old ones without a row of the input.
    """
    for part in new:
        store.take_in(staging, part)
    sync_folder(store.root / "data")
    store.rewrite_manifest(lines)
    for part in old:
        store.remove(part)
    shutil.rmtree(staging.root, ignore_errors=True)
