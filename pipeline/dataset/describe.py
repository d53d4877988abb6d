"""Status: what a dataset holds and how its last run went, from the manifest alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.dataset.manifest import Manifest, totals
from pipeline.dataset.store import Store
from pipeline.errors import UsageError


def open_dataset(store: Store) -> Manifest:
    """Return the manifest of a dataset; raises UsageError when the folder holds none."""
    manifest = store.read_manifest()
    if not store.manifest_path.exists() and not store.part_sizes():
        raise UsageError(f"{store.root}: expected a dataset made by `embed-corpus run`, found no manifest.jsonl")
    return manifest


def did(run: Mapping[str, Any]) -> str:
    """Return in words what a run did, from the fields of its record."""
    words = {"kept_rows": "kept {:,} rows", "reused_rows": "reused {:,}", "removed_rows": "removed {:,}"}
    rest = [text.format(run[name]) for name, text in words.items() if run[name]]
    return ", ".join([f"embedded {run['embedded_now']:,} texts", *rest])


def status(store: Store, manifest: Manifest) -> dict[str, Any]:
    """Return the object of `status --json`."""
    dataset, run = manifest.dataset, manifest.run
    recipe = dataset.recipe if dataset else {}
    state = "complete" if run is not None and run.state == "complete" else "incomplete"
    return {
        "state": "running" if store.is_locked() else state,
        **totals(manifest.receipts.values()),
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
        "engine_s": run.engine_s if run else 0.0,
        "wall_s": run.wall_s if run else 0.0,
        "engine_busy": run.engine_busy if run else None,
        "peak_rss_bytes": run.peak_rss_bytes if run else 0,
        "cost_usd": run.cost_usd if run else 0.0,
    }
