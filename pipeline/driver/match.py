"""Decide which existing parts can be kept: check the recipe, then match each receipt to the shards of the input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.chunk import Shard, ShardSpan, gaps
from pipeline.config import Config, to_tables
from pipeline.corpus import Corpus, folders_below, root_key
from pipeline.dataset import Dataset, Manifest, Receipt, Store
from pipeline.driver.contents import Contents, contents_of
from pipeline.driver.inventory import Inventory, RunOptions, disjoint, spans_of
from pipeline.errors import RecipeError, UsageError
from pipeline.recipe import column_settings, dim_of, fingerprint, has_columns_of, portable, recipe

State = Literal["current", "unconfirmed", "stale"]


def take_inventory(
    store: Store, found: Contents, config: Config, corpus: Corpus, options: RunOptions, shards: Sequence[Shard]
) -> Inventory:
    """Match the parts of an output, and those that wait for the swap, to the shards of an input.

    `corpus` is what is known of the shards so far: which files are unusable, and the types of kept columns, if they are
    settled; before that, parts of any types count.
    A part that the manifest names but that is not there in its full size, or not with its rejects, counts as not
    made. Raises RecipeError when the output has another recipe and is not to be rebuilt.
    """
    manifest, wanted = found.manifest, recipe(config)
    dataset = Dataset(fingerprint=fingerprint(wanted), recipe=wanted, config=portable(to_tables(config)))
    if options.rebuild and options.keep_missing:
        raise UsageError(
            "--rebuild: expected it without --keep-missing, as rows of files that are gone cannot be made again"
        )
    if not options.rebuild:
        _check_recipe(store, dataset, manifest, found.receipts)
    staged = contents_of(store.staging(dataset.fingerprint)).receipts
    waiting = frozenset(receipt.part for receipt in staged)
    receipts = [*found.receipts, *staged]
    here = root_key(corpus.root)
    match = _Match(
        manifest=manifest,
        corpus=corpus,
        config=config,
        options=options,
        here=here,
        settings=column_settings(config, corpus.columns.types) if corpus.columns.schema else "",
        at_hand={shard.source: shard for shard in shards},
        below=folders_below(corpus.root, shards, found.roots - {here}),
    )
    of_recipe = [receipt for receipt in receipts if receipt.fingerprint == dataset.fingerprint]
    states = {receipt.part: match.states_of(receipt) for receipt in of_recipe}
    met = {part: {state for _, state in found} for part, found in states.items()}
    current = [receipt for receipt in of_recipe if met[receipt.part] == {"current"}]
    suspects = [r for r in of_recipe if "unconfirmed" in met[r.part] and "stale" not in met[r.part]]
    kept = disjoint(current)
    done = spans_of(kept.values())
    unconfirmed = [
        suspect
        for suspect in suspects
        if suspect.part not in waiting and any(gaps(done[source]) for source in suspect.sources)
    ]
    left = kept.keys() | {suspect.part for suspect in unconfirmed}
    whole = {receipt.part for receipt in found.named}
    return Inventory(
        dataset=dataset,
        manifest=manifest,
        kept=kept,
        unconfirmed=tuple(unconfirmed),
        stale=tuple(receipt for receipt in receipts if receipt.part not in left),
        staged=waiting,
        damaged=tuple(part for part in manifest.receipts if part not in whole),
        unread={part: match.unread(found) for part, found in states.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """What receipts are held against."""

    manifest: Manifest
    corpus: Corpus
    config: Config
    options: RunOptions
    here: str  # key of the folder of the input
    settings: str  # of the kept columns, once their types are settled
    at_hand: Mapping[str, Shard]
    below: Mapping[str, str]  # see `folders_below`

    def states_of(self, receipt: Receipt) -> list[tuple[ShardSpan, State]]:
        corpus = self.config.corpus
        has_columns = receipt.has_text == corpus.store_text and receipt.kinds.keys() <= set(corpus.kept)
        has_settings = has_columns and (
            receipt.column_settings == self.settings
            if self.settings
            else has_columns_of(receipt.column_settings, self.config)
        )
        return [(each, self._state_of(receipt, each, has_settings)) for each in receipt.spans]

    def unread(self, states: Sequence[tuple[ShardSpan, State]]) -> frozenset[str]:
        return frozenset(
            each.source for each, state in states if each.source not in self.at_hand and state == "current"
        )

    def _state_of(self, receipt: Receipt, each: ShardSpan, has_settings: bool) -> State:
        shard, is_of_here = self.at_hand.get(each.source), receipt.root in ("", self.here)
        if shard is None:  # its rows cannot be made again, whatever their column settings are
            is_renamed = f"{self.below.get(receipt.root)}/{each.source}" in self.at_hand
            return "current" if self.options.keep_missing and not is_renamed else "stale"
        if not has_settings and shard.source not in self.corpus.skipped:
            return "stale"
        is_current = not self.options.rehash and self.manifest.is_current(receipt, each, shard)
        return "current" if is_current and (is_of_here or not self.options.keep_missing) else "unconfirmed"


def _check_recipe(store: Store, wanted: Dataset, manifest: Manifest, there: Sequence[Receipt]) -> None:
    found = manifest.dataset.recipe if manifest.dataset else None
    if found is None:
        found = next(filter(None, (store.recipe_of(receipt.part) for receipt in there)), None)
    if found is None or fingerprint(found) == wanted.fingerprint or not (manifest.receipts or there):
        return
    asked = wanted.recipe
    differing = [key for key in sorted({*found, *asked}) if found.get(key) != asked.get(key)]
    fields = "; ".join(
        f"{key} is {json.dumps(found.get(key))}, asked for {json.dumps(asked.get(key))}" for key in differing
    )
    advice = "Choose another --output, or let --rebuild replace this one"
    if differing == ["run.dim"] and asked["run.dim"] < dim_of(found):
        advice += (
            f"; `embed-corpus slice {store.root} --dim {asked['run.dim']} DEST` cuts the vectors without an engine"
        )
    raise RecipeError(f"output {store.root} was made with another recipe: {fields}. {advice}")
