"""Repair: drop what is damaged, so that the next run makes it again, and nothing that is sound."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import msgspec

from pipeline.chunk import Shard, Taken
from pipeline.dataset import TRASH, Manifest, Receipt, Run, Store, discard, discard_file, sweep
from pipeline.files import remove_file
from pipeline.tools.verify import LEFT_BY_A_RUN, Problem, part_problems, trusted

IN_THE_MANIFEST = {"receipt", "count"}  # kinds of problems that a wrong line can be the cause of


def repair(store: Store, manifest: Manifest, problems: Sequence[Problem]) -> list[str]:
    """Remove what is damaged, mend lines of the manifest by the footers of sound parts, and return what was done.

    The output must be held. Files go before their lines in the manifest: a run trusts a line only where its file is.
    Where the recipe is lost the manifest goes, and a run that is given the recipe builds it again from the parts.
    """
    repair = _Repair(store=store, manifest=trusted(manifest), kept=dict(manifest.receipts))
    kinds: dict[str, set[str]] = defaultdict(set)
    for problem in problems:
        kinds[problem.path.rpartition("/")[2]].add(problem.kind)
    for problem in problems:
        repair.mend_or_drop_part(problem, kinds)
    for problem in problems:
        repair.drop_leftover(problem)
    sweep(store)
    if repair.manifest.dataset is None:
        remove_file(store.manifest_path)
        return [*repair.done, "manifest.jsonl: dropped (its recipe cannot be read)"]
    run = manifest.run or Run(state="incomplete", input="", started_at=time.time())
    if repair.n_dropped or repair.left or manifest.n_unreadable:
        run = msgspec.structs.replace(run, state="incomplete", missing_chunks=run.missing_chunks + repair.n_dropped)
    store.rewrite_manifest([repair.manifest.dataset, *manifest.seen.values(), *repair.kept.values(), run])
    store.commit()
    if manifest.n_unreadable:
        repair.done.append(f"manifest.jsonl: dropped ({manifest.n_unreadable} lines that cannot be read)")
    return repair.done


@dataclass(slots=True, kw_only=True)
class _Repair:
    """What a repair has done so far."""

    store: Store
    manifest: Manifest
    kept: dict[str, Receipt]  # by part name
    mended: set[str] = field(default_factory=set)  # names of parts whose line in the manifest was wrong
    left: set[str] = field(default_factory=set)  # names of parts for the next run to decide on
    n_dropped: int = 0  # parts that the manifest names
    done: list[str] = field(default_factory=list)

    def mend_or_drop_part(self, problem: Problem, kinds: Mapping[str, Set[str]]) -> None:
        """Mend the line of a part that is as it was published, and drop any other damaged part of the manifest."""
        folder, _, name = problem.path.rpartition("/")
        is_damage = folder in ("data", "rejects") and problem.kind not in (*LEFT_BY_A_RUN, "outdated")
        if not is_damage or name not in self.kept.keys() - self.mended:
            return
        named, own = self.kept.pop(name), self.store.receipt_of(name)
        is_published = own is not None and own.checksum == named.checksum and kinds[name] <= IN_THE_MANIFEST
        if own and is_published and _fits(own, self.store, self.manifest, self.kept):
            self.kept[name] = own
            self.mended.add(name)
            self.done.append(f"{problem.path}: mended in the manifest ({problem.kind})")
            return
        discard(self.store, name)
        self.n_dropped += 1
        self._dropped(problem)

    def drop_leftover(self, problem: Problem) -> None:
        """Drop what a stopped run left; a sound part stays, as it may have rows that a swap replaces or brings."""
        folder, _, name = problem.path.rpartition("/")
        if problem.kind == "temporary":
            self._dropped(problem)
        elif problem.kind == "orphan" and folder == "data":
            if self.store.receipt_of(name) is None:
                discard(self.store, name)
                self._dropped(problem)
            else:
                self.left.add(name)
                self.done.append(f"{problem.path}: left to the next run, which knows whether the input has its rows")
        elif problem.kind == "orphan" and not self._has_rejects(name):
            discard_file(self.store, problem.path)
            self._dropped(problem)

    def _has_rejects(self, name: str) -> bool:
        return self.kept[name].has_rejects if name in self.kept else name in self.left

    def _dropped(self, problem: Problem) -> None:
        where = "removed" if problem.kind == "temporary" else f"dropped into {TRASH}/"
        self.done.append(f"{problem.path}: {where} ({problem.kind})")


def _fits(receipt: Receipt, store: Store, manifest: Manifest, kept: Mapping[str, Receipt]) -> bool:
    taken: dict[Shard, Taken] = defaultdict(Taken)
    for each in (each for other in kept.values() for each in other.spans):
        if not taken[each.shard].meets(each.span):
            taken[each.shard].add(each.span)
    meets = any(taken[each.shard].meets(each.span) for each in receipt.spans)
    return not meets and not any(part_problems(store, manifest, receipt))
