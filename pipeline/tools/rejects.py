"""The rejected rows of a dataset, listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.console import in_one_line
from pipeline.dataset import Manifest, Store, iter_rejects

TEXT_WIDTH = 60  # characters of a text that a line shows


def list_rejects(store: Store, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Yield the rejected rows of a dataset in the order of source and row, in constant memory.

    They are those of the parts that the manifest names; without a manifest those of the sound parts. Raises
    DamageError for a file that cannot be read.
    """
    if store.manifest_path.exists():
        return iter_rejects(store, manifest.receipts.values())
    return iter_rejects(store, filter(None, map(store.receipt_of, store.part_sizes())))


def format_reject(reject: dict[str, Any]) -> str:
    """Return a rejected row as one line: source:row, id, reason, detail and the beginning of its text."""
    place = f"{in_one_line(reject['source'])}:{reject['row']}"
    text = reject["text"] or ""
    shown = repr(text[:TEXT_WIDTH]) + ("…" if len(text) > TEXT_WIDTH else "") if text else ""
    return "  ".join(
        filter(
            None,
            [place, in_one_line(reject["id"]), in_one_line(reject["reason"]), in_one_line(reject["detail"]), shown],
        )
    )
