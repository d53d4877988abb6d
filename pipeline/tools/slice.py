"""Slicing: a dataset of narrower vectors out of one of wider ones, without an engine."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import msgspec

from pipeline.chunk import make_chunk
from pipeline.dataset import (
    Dataset,
    Manifest,
    Receipt,
    Run,
    Store,
    check_ours,
    open_part,
    open_rejects,
    sweep,
    totals,
    width_of,
    write_card,
)
from pipeline.errors import DamageError, RecipeError, UsageError, VectorError
from pipeline.recipe import fingerprint, portable
from pipeline.vectors import fixed_size_list, to_numpy, to_unit_float16


def slice_dataset(store: Store, manifest: Manifest, dim: int, place: Store) -> dict[str, Any]:
    """Make `place` hold the first `dim` components of every vector of a dataset, of unit length again; return its sums.

    One part is in memory at a time. What an earlier call made stays, what the dataset no longer has leaves. Raises
    UsageError for a width that the vectors do not have, RecipeError when `place` holds another dataset and DamageError
    for a part that cannot be read.
    """
    wide = manifest.dataset
    if wide is None:
        raise DamageError(f"dataset {store.root}: the manifest has no dataset line; `embed-corpus run` mends it")
    width = width_of(wide)
    if not 1 <= dim < width:
        raise UsageError(f"slice: expected --dim of 1 to {width - 1}, found {dim}")
    began = time.monotonic()
    dataset = _narrowed(wide, dim)
    _check_destination(place, manifest, dataset)
    with place.lock():
        sweep(place)
        there = place.read_manifest()
        if there.dataset is None:  # so that what is interrupted is known for what it is
            place.rewrite_manifest([dataset, Run(state="started", input="", started_at=time.time())])
        sizes = place.part_sizes()
        made: dict[str, Receipt] = {}
        for receipt in manifest.receipts.values():
            narrow = _renamed(receipt, dataset.fingerprint)
            found = there.receipts.get(narrow.part)
            is_there = found is not None and found.size_bytes == sizes.get(narrow.part)
            made[narrow.part] = found if found and is_there else _cut(store, receipt, width, narrow, dataset, place)
        last = manifest.run or Run(state="incomplete", input="", started_at=time.time())
        run = Run(
            state=last.state,
            input=last.input,
            started_at=time.time(),
            duplicate_ids=last.duplicate_ids,
            missing_chunks=last.missing_chunks,
            skipped_files=last.skipped_files,
            wall_s=round(time.monotonic() - began, 3),
        )
        place.rewrite_manifest([dataset, *manifest.seen.values(), *made.values(), run])
        for part in there.receipts.keys() - made.keys():
            place.remove(part)
        sums = totals(made.values())
        write_card(place, dataset, sums)
        place.commit()
    return sums


def _check_destination(place: Store, manifest: Manifest, dataset: Dataset) -> None:
    """Raise UsageError for a folder that is not ours, and RecipeError for one that holds another dataset."""
    check_ours(place)
    there = place.read_manifest()
    if there.dataset is None and not there.receipts and not place.part_sizes():
        return
    ours, theirs = (
        {source for receipt in found.receipts.values() for source in receipt.sources} for found in (manifest, there)
    )
    stranger = ours and theirs and not ours & theirs
    if there.dataset is None or there.dataset.fingerprint != dataset.fingerprint or stranger:
        raise RecipeError(f"{place.root}: expected an empty folder or an earlier slice of this dataset, found another")


def _narrowed(wide: Dataset, dim: int) -> Dataset:
    recipe = wide.recipe | {"run.dim": dim}
    run = wide.config.get("run")
    config = wide.config | {"run": (run if isinstance(run, dict) else {}) | {"dim": dim}}
    return Dataset(fingerprint=fingerprint(recipe), recipe=recipe, config=portable(config))


def _renamed(receipt: Receipt, fingerprint: str) -> Receipt:
    """Return the receipt that a run of the narrower recipe would make, so that such a run finds it done."""
    chunk = make_chunk((dataclasses.replace(each, salt=receipt.checksum) for each in receipt.spans), fingerprint)
    return msgspec.structs.replace(
        receipt,
        chunk=chunk.id,
        part=chunk.part_name,
        fingerprint=fingerprint,
        reused_rows=0,
        engine_calls=0,
        engine_texts=0,
        engine_tokens=0,
        engine_s=0.0,
        engine_ready_at=0.0,
        size_bytes=0,
        checksum="",
    )


def _cut(store: Store, receipt: Receipt, width: int, narrow: Receipt, dataset: Dataset, place: Store) -> Receipt:
    path, dim = store.data_path(receipt.part), dataset.recipe["run.dim"]
    with open_part(path, width, has_text=receipt.has_text) as file:
        table = file.read()
        full = to_numpy(table.column("embedding"))
    try:
        vectors = to_unit_float16(full, dim)
    except VectorError as error:
        raise DamageError(f"{path}: {error}; `verify --repair` drops the part and a run makes it again") from error
    rejects = None
    if receipt.has_rejects:
        with open_rejects(store.rejects_path(receipt.part)) as file:
            rejects = file.read()
    table = table.set_column(table.schema.get_field_index("embedding"), "embedding", fixed_size_list(vectors))
    return place.publish(narrow, table, rejects, json.dumps(dataset.recipe))
