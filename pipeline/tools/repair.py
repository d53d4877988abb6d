"""Repair: drop what is damaged, so that the next run makes it again, and nothing that is sound."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from pipeline.chunk import overlapping
from pipeline.dataset.manifest import Manifest, Receipt, Run
from pipeline.dataset.store import Store
from pipeline.files import remove_file
from pipeline.tools.verify import LEFT_BY_A_RUN, Problem, part_problems, trusted

IN_THE_MANIFEST = {"receipt", "count"}  # kinds of problems that a wrong line can be the cause of


def repair(store: Store, manifest: Manifest, problems: Sequence[Problem]) -> list[str]:
    """Remove what is damaged, mend lines of the manifest by the footers of sound parts, and return what was done.

    The output must be held. Files go before their lines in the manifest: a run trusts a line only where its file is.
    Where the recipe is lost the manifest goes, and a run that is given the recipe builds it again from the parts.
    """
    manifest, kept, done = trusted(manifest), dict(manifest.receipts), list[str]()

    def drop(problem: Problem) -> None:
        done.append(f"{problem.path}: dropped ({problem.kind})")

    n_dropped, mended, left = 0, set[str](), set[str]()
    kinds: dict[str, set[str]] = defaultdict(set)
    for problem in problems:
        kinds[problem.path.rpartition("/")[2]].add(problem.kind)
    for problem in problems:
        folder, _, name = problem.path.rpartition("/")
        if (
            folder in ("data", "rejects")
            and problem.kind not in (*LEFT_BY_A_RUN, "outdated")
            and name in kept.keys() - mended
        ):
            named = kept.pop(name)
            own = store.receipt_of(name)
            if (
                own
                and own.checksum == named.checksum
                and kinds[name] <= IN_THE_MANIFEST
                and _fits(own, store, manifest, kept)
            ):
                kept[name] = own  # the file is as it was published: it is the manifest that says something else
                mended.add(name)
                done.append(f"{problem.path}: mended in the manifest ({problem.kind})")
                continue
            store.remove(name)
            drop(problem)
            n_dropped += 1
    for problem in problems:
        folder, _, name = problem.path.rpartition("/")
        if problem.kind == "temporary":
            drop(problem)
        elif problem.kind == "orphan" and folder == "data":
            if store.receipt_of(name) is None:
                store.remove(name)
                drop(problem)
            else:  # perhaps of rows that a swap has replaced, or is about to bring: the input knows
                left.add(name)
                done.append(f"{problem.path}: left to the next run, which knows whether the input has its rows")
        elif problem.kind == "orphan" and not (kept[name].has_rejects if name in kept else name in left):
            remove_file(store.rejects_path(name))
            drop(problem)
    store.sweep()
    if manifest.dataset is None:
        remove_file(store.manifest_path)
        return [*done, "manifest.jsonl: dropped (its recipe cannot be read)"]
    run = manifest.run or Run(state="incomplete", input="", started_at=time.time())
    if n_dropped or left or manifest.n_unreadable:
        run = msgspec.structs.replace(run, state="incomplete", missing_chunks=run.missing_chunks + n_dropped)
    store.rewrite_manifest([manifest.dataset, *manifest.seen.values(), *kept.values(), run])
    store.commit()
    if manifest.n_unreadable:
        done.append(f"manifest.jsonl: dropped ({manifest.n_unreadable} lines that cannot be read)")
    return done


def _fits(receipt: Receipt, store: Store, manifest: Manifest, kept: Mapping[str, Receipt]) -> bool:
    shard = (receipt.source, receipt.shard_size_bytes, receipt.shard_mtime_ns)
    same = [r.span for r in kept.values() if (r.source, r.shard_size_bytes, r.shard_mtime_ns) == shard]
    return not overlapping([*same, receipt.span]) and not any(part_problems(store, manifest, receipt))
