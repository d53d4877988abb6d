"""Decide which existing parts can be kept: check the recipe, then match each receipt to a shard of the input."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pipeline.chunk import Shard, ShardSpan, Span, Taken, gaps
from pipeline.config import Config, Dtype, portable, to_tables
from pipeline.corpus import Corpus, folders_below, root_key
from pipeline.dataset import Dataset, Manifest, Receipt, Seen, Store
from pipeline.errors import RecipeError, UsageError
from pipeline.recipe import column_settings, fingerprint, has_columns_of, recipe
from pipeline.schema import dim_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How far a run goes, and what it does about a dataset that is there already."""

    limit: int | None = None  # rows of the whole corpus, finished ones included
    skip_bad_files: bool = False
    rebuild: bool = False  # replace a dataset of another recipe, once the new one is whole
    rehash: bool = False  # read every shard again, whatever its date says
    keep_missing: bool = False  # keep the rows of shards that are gone
    prune: bool = False  # let any number of rows leave
    tokens_per_s: float = 0.0  # of the engine, as it was measured before; 0 = as the output's own parts say


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What an output holds, against the shards of an input."""

    dataset: Dataset  # as this run makes it
    manifest: Manifest  # as it was found
    kept: dict[str, Receipt]  # by part name: the input still has their rows
    unconfirmed: tuple[Receipt, ...]  # of shards that may have changed
    stale: tuple[Receipt, ...]  # that the finished dataset will not have
    staged: frozenset[str]  # names of parts that wait for the swap
    damaged: tuple[str, ...]  # names of parts that are not there in their full size
    unread: Mapping[str, frozenset[str]]  # by part: sources that are not at hand, or not readable, whose rows stay

    def done(self) -> dict[str, list[tuple[Span, bool]]]:
        """Return the finished spans of each source, and whether each ends its shard."""
        return _spans(self.kept.values())

    @property
    def replaces(self) -> bool:
        """Whether parts leave the dataset or wait to join it: then all that is new joins in one swap."""
        return bool(self.stale or self.staged)

    @property
    def leaving(self) -> list[str]:
        """Names of the parts in the dataset's own folder that the finished dataset will not have, unless made again."""
        return [*(receipt.part for receipt in self.stale if receipt.part not in self.staged), *self.damaged]

    def reusable(self, shards: Iterable[Shard]) -> list[str]:
        """Return the names of parts that leave, or whose shard is gone: their texts may be in other shards now."""
        at_hand = {shard.source for shard in shards}
        gone = (receipt for receipt in self.kept.values() if not at_hand.issuperset(receipt.sources))
        return [receipt.part for receipt in (*self.stale, *gone) if receipt.fingerprint == self.dataset.fingerprint]

    def settled(self, unchanged: Collection[str], skipped: Collection[str] = ()) -> Inventory:
        """Return the inventory with the unconfirmed of these part names kept and the others stale.

        `skipped` names sources that turned out not to be readable.
        """
        kept = _disjoint([*self.kept.values(), *(suspect for suspect in self.unconfirmed if suspect.part in unchanged)])
        stale = tuple(suspect for suspect in self.unconfirmed if suspect.part not in kept)
        bad = frozenset(skipped)
        unread = {part: sources | bad for part, sources in self.unread.items()}
        return replace(self, kept=kept, unconfirmed=(), stale=(*self.stale, *stale), unread=unread)

    def seen(self, shards: Iterable[Shard]) -> list[Seen]:
        """Return a line for each shard whose parts are of an earlier date than the file."""
        found: dict[str, set[Shard]] = defaultdict(set)
        for receipt in self.kept.values():
            for each in receipt.spans:
                found[each.source].add(each.shard)
        return [Seen.of(shard) for shard in shards if found[shard.source] - {shard}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an output has, before it is held against an input."""

    manifest: Manifest
    named: list[Receipt]  # of parts that are there, and that the manifest names
    unnamed: list[Receipt]  # of the other parts of ours

    @property
    def roots(self) -> set[str]:
        """Keys of the folders that sources are below."""
        return {receipt.root for receipt in (*self.named, *self.unnamed)}


def contents_of(store: Store) -> Contents:
    """Read the manifest of an output, and the footers of parts that it does not name."""
    manifest = store.read_manifest()
    named, unnamed = _there(store, manifest)
    return Contents(manifest=manifest, named=named, unnamed=unnamed)


def take_inventory(
    store: Store, found: Contents, config: Config, corpus: Corpus, options: RunOptions, shards: Sequence[Shard]
) -> Inventory:
    """Match the parts of an output, and those that wait for the swap, to the shards of an input.

    `corpus` is what is known of the shards so far: which files are unusable, and the types of kept columns, if they are
    settled; before that, parts of any types count.
    A part that the manifest names but that is not there in its full size, or not with its rejects, counts as not
    made. Raises RecipeError when the output has another recipe and is not to be rebuilt.
    """
    manifest, named, unnamed = found.manifest, found.named, found.unnamed
    wanted = recipe(config)
    dataset = Dataset(fingerprint=fingerprint(wanted), recipe=wanted, config=portable(to_tables(config)))
    whole = {receipt.part for receipt in named}
    if options.rebuild and options.keep_missing:
        raise UsageError(
            "--rebuild: expected it without --keep-missing, as rows of files that are gone cannot be made again"
        )
    if not options.rebuild:
        _check_recipe(store, dataset, manifest, [*named, *unnamed])
    staging = store.staging(dataset.fingerprint)
    staged = [receipt for found in _there(staging, staging.read_manifest()) for receipt in found]
    waiting = frozenset(receipt.part for receipt in staged)
    types = corpus.columns.types
    settings = column_settings(config, types)
    at_hand, here = {shard.source: shard for shard in shards}, root_key(corpus.root)
    below = folders_below(corpus.root, shards, found.roots - {here})

    def state_of(receipt: Receipt, each: ShardSpan) -> Literal["current", "unconfirmed", "stale"]:
        shard, is_of_here = at_hand.get(each.source), receipt.root in ("", here)
        if shard is None:  # its rows cannot be made again, whatever their column settings are
            is_renamed = f"{below.get(receipt.root)}/{each.source}" in at_hand
            return "current" if options.keep_missing and not is_renamed else "stale"
        if shard.source not in corpus.skipped and not (
            receipt.kinds.keys() <= set(config.corpus.keep)
            and (receipt.column_settings == settings if types else has_columns_of(receipt.column_settings, config))
        ):
            return "stale"
        is_current = not options.rehash and manifest.is_current(receipt, each, shard)
        return "current" if is_current and (is_of_here or not options.keep_missing) else "unconfirmed"

    current, unconfirmed, unread = [], [], {}
    for receipt in (*named, *unnamed, *staged):
        if receipt.fingerprint != dataset.fingerprint:
            continue
        unread[receipt.part] = frozenset(
            each.source for each in receipt.spans if each.source not in at_hand and state_of(receipt, each) == "current"
        )
        states = {state_of(receipt, each) for each in receipt.spans}
        if states == {"current"}:
            current.append(receipt)
        elif "stale" not in states and receipt.part not in waiting:
            unconfirmed.append(receipt)
    kept = _disjoint(current)
    done = _spans(kept.values())
    unconfirmed = [suspect for suspect in unconfirmed if any(gaps(done[source]) for source in suspect.sources)]
    left = kept.keys() | {suspect.part for suspect in unconfirmed}
    return Inventory(
        dataset=dataset,
        manifest=manifest,
        kept=kept,
        unconfirmed=tuple(unconfirmed),
        stale=tuple(receipt for receipt in (*named, *unnamed, *staged) if receipt.part not in left),
        staged=waiting,
        damaged=tuple(part for part in manifest.receipts if part not in whole),
        unread=unread,
    )


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


def _spans(receipts: Iterable[Receipt]) -> dict[str, list[tuple[Span, bool]]]:
    spans: dict[str, list[tuple[Span, bool]]] = defaultdict(list)
    for receipt in receipts:
        for each in receipt.spans:
            spans[each.source].append((each.span, each.last))
    return spans


def _there(store: Store, manifest: Manifest) -> tuple[list[Receipt], list[Receipt]]:
    """Return the receipts of the parts in a folder: those that its manifest names, then the others'.

    Where the manifest contradicts itself, it is the part that says what it is.
    """
    sizes = store.part_sizes()
    named = (receipt for receipt in manifest.receipts.values() if sizes.get(receipt.part) == receipt.size_bytes)
    sound = (receipt if receipt.is_consistent else store.receipt_of(receipt.part) for receipt in named)
    full = (receipt for receipt in sound if receipt is not None)
    others = (store.receipt_of(part) for part in sorted(sizes.keys() - manifest.receipts.keys()))
    return list(filter(store.has_rejects_of, full)), [receipt for receipt in others if receipt is not None]


def _disjoint(receipts: Iterable[Receipt]) -> dict[str, Receipt]:
    """Return receipts by part name, without those that share a row with an earlier one."""
    taken: dict[str, Taken] = defaultdict(Taken)
    kept: dict[str, Receipt] = {}
    for receipt in receipts:
        if not any(taken[each.source].meets(each.span) for each in receipt.spans):
            kept[receipt.part] = receipt
            for each in receipt.spans:
                taken[each.source].add(each.span)
    return kept


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
