"""What a dataset holds: its manifest, and the object of `status --json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.config import MAX_DIM
from pipeline.dataset.layout import check_layout
from pipeline.dataset.manifest import Dataset, Manifest, totals
from pipeline.dataset.ours import is_dataset
from pipeline.dataset.store import Store
from pipeline.errors import DamageError, UsageError
from pipeline.recipe import dim_of

MAX_SWAPS = 8  # that one reader meets
T = TypeVar("T")


def open_dataset(store: Store) -> Manifest:
    """Return the manifest of a dataset; raises UsageError when the folder holds none, DamageError for links in it."""
    if store.root.is_file():
        raise UsageError(f"{store.root}: expected the folder of a dataset, found a file")
    manifest = store.read_manifest()
    if not is_dataset(store):
        raise UsageError(f"{store.root}: expected a dataset made by `embed-corpus run`, found no manifest of one")
    check_layout(store.root, DamageError)
    return manifest


def read_dataset(store: Store, read: Callable[[Manifest], T]) -> T:
    """Return what `read` makes of a dataset that a run may be changing.

    Where it finds damage, the manifest is read once more: a part that it named may have left in a swap meanwhile.
    Raises DamageError for damage under a manifest that stays, or after MAX_SWAPS other ones.
    """
    manifest = open_dataset(store)
    for _ in range(MAX_SWAPS):
        try:
            return read(manifest)
        except DamageError:
            before, manifest = manifest, store.read_manifest()
            if manifest.receipts == before.receipts:
                raise
    return read(manifest)


def width_of(dataset: Dataset) -> int:
    """Return the width of the vectors, as the recipe has it; raises DamageError where that is no width."""
    if not (width := dim_of(dataset.recipe)):
        found = json.dumps(dataset.recipe.get("run.dim"))[:80]
        raise DamageError(
            f"manifest.jsonl: expected a recipe with run.dim of 1 to {MAX_DIM:,}, found {found}; move it away and "
            "run again: the parts say what they are"
        )
    return width


def trained_widths(dataset: Dataset) -> list[int]:
    """Return the widths that the model was trained for, as far as the manifest says."""
    model = dataset.config.get("model")
    dims = model.get("dims") if isinstance(model, dict) else None
    return [dim for dim in dims if type(dim) is int] if isinstance(dims, list) else []


def status(store: Store, manifest: Manifest) -> dict[str, Any]:
    """Return the object of `status --json`."""
    dataset, run = manifest.dataset, manifest.run
    recipe = dataset.recipe if dataset else {}
    sums = totals(manifest.receipts.values())
    state = "complete" if run is not None and run.state == "complete" else "incomplete"
    return {
        "path": str(store.root),
        "state": "running" if store.is_locked() else state,
        **sums,
        "planned_rows": max(run.planned_rows if run else 0, sums["input_rows"]),
        "dim": recipe.get("run.dim"),
        "model": recipe.get("model.name"),
        "revision": recipe.get("model.revision"),
        "fingerprint": dataset.fingerprint if dataset else None,
        "duplicate_ids": run.duplicate_ids if run else 0,
        "missing_chunks": run.missing_chunks if run and run.state != "started" else None,
        "skipped_files": list(run.skipped_files) if run else [],
        "engine_calls": run.engine_calls if run else 0,
        "embedded_now": run.embedded_now if run else 0,
        "kept_rows": run.kept_rows if run else 0,
        "reused_rows": run.reused_rows if run else 0,
        "removed_rows": run.removed_rows if run else 0,
        "engine_tokens": run.engine_tokens if run else 0,
        "engine_s": run.engine_s if run else 0.0,
        "estimated_tokens": run.estimated_tokens if run else 0,
        "estimated_engine_s": run.estimated_engine_s if run else 0.0,
        "wall_s": run.wall_s if run else 0.0,
        "engine_busy": run.engine_busy if run else None,
        "peak_rss_bytes": run.peak_rss_bytes if run else 0,
        "cost_usd": run.cost_usd if run else 0.0,
    }
