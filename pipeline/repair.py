"""Repair: drop what is damaged, so that the next run makes it again, and nothing that is sound."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from pipeline.files import remove_file
from pipeline.manifest import Manifest, Receipt, Run
from pipeline.plan import overlapping
from pipeline.store import Store
from pipeline.verify import LEFT_BY_A_RUN, Problem, part_problems, trusted


def repair(store: Store, manifest: Manifest, problems: Sequence[Problem]) -> list[str]:
    """Remove damaged parts, orphans and temporary files, name sound parts in the manifest, and return what was done.

    The output must be held. Files go before their lines in the manifest: a run trusts a line only where its file is.
    Where the recipe is lost the manifest goes, and a run that is given the recipe builds it again from the parts.
    """
    manifest, kept, done = trusted(manifest), dict(manifest.receipts), list[str]()

    def drop(problem: Problem) -> None:
        done.append(f"{problem.path}: dropped ({problem.kind})")

    for problem in problems:
        folder, _, name = problem.path.rpartition("/")
        if folder in ("data", "rejects") and problem.kind not in (*LEFT_BY_A_RUN, "outdated") and name in kept:
            del kept[name]
            store.remove(name)
            drop(problem)
    n_dropped = len(done)
    for problem in problems:
        folder, _, name = problem.path.rpartition("/")
        if problem.kind == "temporary":
            drop(problem)
        elif problem.kind == "orphan" and folder == "data":
            receipt = store.receipt_of(name)
            if receipt is not None and _fits(receipt, store, manifest, kept):
                kept[name] = receipt
                done.append(f"{problem.path}: kept, as it is sound")
            else:
                store.remove(name)
                drop(problem)
        elif problem.kind == "orphan" and not (name in kept and kept[name].has_rejects):
            remove_file(store.rejects_path(name))
            drop(problem)
    store.sweep()
    if manifest.dataset is None:
        remove_file(store.manifest_path)
        return [*done, "manifest.jsonl: dropped (its recipe cannot be read)"]
    run = manifest.run or Run(state="incomplete", input="", started_at=time.time())
    if n_dropped or manifest.n_unreadable:
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
