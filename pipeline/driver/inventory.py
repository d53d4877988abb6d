"""The inventory: which parts a dataset keeps, which leave it, and which may have changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from pipeline.chunk import Shard, Span, Taken
from pipeline.dataset import Dataset, Manifest, Receipt, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How far a run goes, and what it does about a dataset that is there already."""

    limit: int | None = None  # rows of the whole corpus, finished ones included
    skip_bad_files: bool = False
    rebuild: bool = False  # replace a dataset of another recipe, once the new one is whole
    rehash: bool = False  # read every shard again, whatever its date says
    keep_missing: bool = False  # keep the rows of shards that are gone
    prune: bool = False  # let any number of rows leave
    streams: bool = False  # find the chunks of a long corpus while it is embedded
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
        return spans_of(self.kept.values())

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
        kept = disjoint([*self.kept.values(), *(suspect for suspect in self.unconfirmed if suspect.part in unchanged)])
        stale = tuple(suspect for suspect in self.unconfirmed if suspect.part not in kept)
        bad = frozenset(skipped)
        unread = {part: sources | bad for part, sources in self.unread.items()}
        return replace(self, kept=kept, unconfirmed=(), stale=(*self.stale, *stale), unread=unread)

    def seen(self, shards: Iterable[Shard]) -> list[Seen]:
        """Return a line for each shard whose parts are of an earlier date than the file."""
        made_of = {each.shard for receipt in self.kept.values() for each in receipt.spans}
        others = {shard.source for shard in made_of.difference(shards)}
        return [Seen.of(shard) for shard in shards if shard.source in others]


def spans_of(receipts: Iterable[Receipt]) -> dict[str, list[tuple[Span, bool]]]:
    """Return the spans of each source, and whether each ends its shard."""
    spans: dict[str, list[tuple[Span, bool]]] = defaultdict(list)
    for receipt in receipts:
        for each in receipt.spans:
            spans[each.source].append((each.span, each.last))
    return spans


def disjoint(receipts: Iterable[Receipt]) -> dict[str, Receipt]:
    """Return receipts by part name, without those that share a row with an earlier one."""
    taken: dict[str, Taken] = defaultdict(Taken)
    kept: dict[str, Receipt] = {}
    for receipt in receipts:
        if not any(taken[each.source].meets(each.span) for each in receipt.spans):
            kept[receipt.part] = receipt
            for each in receipt.spans:
                taken[each.source].add(each.span)
    return kept
