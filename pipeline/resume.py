"""Resuming: whose output this is, and which of its parts stand for rows that the input still has."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config import Config, fingerprint, recipe, to_tables
from pipeline.errors import RecipeError
from pipeline.manifest import Dataset, Manifest, Receipt
from pipeline.plan import Shard, Span, overlapping
from pipeline.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What an output holds, against the shards of an input."""

    dataset: Dataset
    receipts: dict[str, Receipt]  # by part name: of shards that are as they were
    stale: tuple[str, ...]  # names of parts that the finished dataset will not have
    rewrite: bool  # whether the manifest says something else

    def done(self) -> dict[str, list[tuple[Span, bool]]]:
        """Return the finished spans of each source, and whether each ends its shard."""
        spans: dict[str, list[tuple[Span, bool]]] = defaultdict(list)
        for receipt in self.receipts.values():
            spans[receipt.source].append((receipt.span, receipt.last))
        return spans


def take_stock(store: Store, config: Config, shards: Sequence[Shard]) -> Stock:
    """Read the manifest, and the footers of parts that it does not name.

    A part that the manifest names but that is not there in its full size counts as not made. Raises RecipeError
    when the output has another recipe.
    """
    manifest = store.read_manifest()
    sizes = store.part_sizes()
    unnamed = [
        receipt for part in sorted(sizes.keys() - manifest.receipts.keys()) if (receipt := store.receipt_of(part))
    ]
    dataset = _dataset(store, config, manifest, unnamed)
    there = [receipt for receipt in manifest.receipts.values() if sizes.get(receipt.part) == receipt.size_bytes]
    stands = {(shard.source, shard.size_bytes, shard.mtime_ns) for shard in shards}
    current: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in (*there, *unnamed):
        if (receipt.source, receipt.shard_size_bytes, receipt.shard_mtime_ns) in stands:
            current[receipt.source].append(receipt)
    kept: dict[str, Receipt] = {}
    for receipts in current.values():
        dropped = set(overlapping([receipt.span for receipt in receipts]))
        kept |= {receipt.part: receipt for index, receipt in enumerate(receipts) if index not in dropped}
    ours = manifest.receipts.keys() | {receipt.part for receipt in unnamed}
    return Stock(
        dataset=dataset,
        receipts=kept,
        stale=tuple(sorted(ours - kept.keys())),
        rewrite=bool(
            manifest.n_unreadable
            or manifest.dataset is None
            or manifest.dataset.fingerprint != dataset.fingerprint
            or manifest.receipts.keys() != kept.keys()
        ),
    )


def _dataset(store: Store, config: Config, manifest: Manifest, unnamed: Sequence[Receipt]) -> Dataset:
    wanted = recipe(config)
    new = Dataset(fingerprint=fingerprint(wanted), recipe=wanted, config=to_tables(config))
    found: dict[str, Any] | None = manifest.dataset.recipe if manifest.dataset else None
    if found is None and unnamed:
        found = store.recipe_of(unnamed[0].part)
    if found is None or fingerprint(found) == new.fingerprint or not (manifest.receipts or unnamed):
        return new
    differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    fields = "; ".join(f"{k} is {json.dumps(found.get(k))}, asked for {json.dumps(wanted.get(k))}" for k in differing)
    raise RecipeError(f"output {store.root} was made with another recipe: {fields}. Choose another --output")
