"""The contents of an output, before they are held against an input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from pipeline.config import Config, Dtype
from pipeline.dataset import Manifest, Receipt, Store
from pipeline.recipe import fingerprint, recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an output has, before it is held against an input."""

    manifest: Manifest
    named: list[Receipt]  # of parts that are there, and that the manifest names
    unnamed: list[Receipt]  # of the other parts of ours

    @property
    def receipts(self) -> list[Receipt]:
        """Of all parts."""
        return [*self.named, *self.unnamed]

    @property
    def roots(self) -> set[str]:
        """Keys of the folders that sources are below."""
        return {receipt.root for receipt in self.receipts}


def contents_of(store: Store) -> Contents:
    """Read the manifest of an output, and the footers of parts that it does not name."""
    manifest = store.read_manifest()
    named, unnamed = _receipts_in(store, manifest)
    return Contents(manifest=manifest, named=named, unnamed=unnamed)


def kept_dtype(config: Config, store: Store, *, rebuild: bool = False) -> Dtype | None:
    """Return the dtype that an output goes on with where its config leaves that open; None for one that may choose.

    A rebuild may choose, unless with that dtype there is nothing to rebuild or parts wait for the swap.
    """
    stored = store.read_recipe() if config.model.dtype == "auto" else None
    if stored is None:
        return None
    recipes = {dtype: recipe(replace(config, model=replace(config.model, dtype=dtype))) for dtype in get_args(Dtype)}
    kept = next((dtype for dtype in recipes if dtype == stored.get("model.dtype")), None)  # a damaged recipe has none
    if not rebuild or (kept and recipes[kept] == stored):
        return kept
    staged = (dtype for dtype in recipes if store.staging(fingerprint(recipes[dtype])).root.exists())
    return next(staged, None)


def _receipts_in(store: Store, manifest: Manifest) -> tuple[list[Receipt], list[Receipt]]:
    """Return the receipts of the parts in a folder: those that its manifest names, then the others'.

    Where the manifest contradicts itself, it is the part that says what it is.
    """
    sizes = store.part_sizes()
    named = (receipt for receipt in manifest.receipts.values() if sizes.get(receipt.part) == receipt.size_bytes)
    sound = (receipt if receipt.is_consistent else store.receipt_of(receipt.part) for receipt in named)
    full = (receipt for receipt in sound if receipt is not None)
    others = (store.receipt_of(part) for part in sorted(sizes.keys() - manifest.receipts.keys()))
    return list(filter(store.has_rejects_of, full)), [receipt for receipt in others if receipt is not None]
