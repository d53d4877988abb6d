"""A run makes the output reflect the input under a config: plan, fan out, reconcile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from pipeline.chunk import Chunk
from pipeline.config import Config
from pipeline.console import CHECKING, Progress, board, note, peak_rss_bytes, repeating
from pipeline.corpus import Input, find_files, in_words, pinned
from pipeline.dataset import (
    Receipt,
    Run,
    Store,
    Transaction,
    count_duplicate_ids,
    describe_reject,
    foreign_files,
    iter_rejects,
    sweep,
    totals,
    write_card,
)
from pipeline.driver.carry import carry
from pipeline.driver.cost import Meter, expected
from pipeline.driver.cut import count_missing
from pipeline.driver.fan_out import FanOut
from pipeline.driver.inventory import RunOptions
from pipeline.driver.make import make
from pipeline.driver.plan import DEFAULT, Plan, check_place, make_plan
from pipeline.driver.removal import check_removal, removal
from pipeline.driver.reuse import count_removed, reusable_vectors, reuse
from pipeline.errors import PipelineError
from pipeline.worker import Failure, Job

SHOW_EVERY_S = 1.0
MAX_COUNTED_ROWS = 2_000_000  # of a dataset whose ids a run counts; of larger ones `verify` does


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: its record, the sums over the dataset, and what went wrong."""

    run: Run
    totals: dict[str, Any]
    failures: tuple[Failure, ...]  # chunks
    first_reject: str = ""  # in words, where every row was rejected

    def shortfall(self) -> str:
        """Return in one line which chunks are missing, or that every row was rejected, and why; else nothing."""
        if self.first_reject:
            return (
                f"expected at least one row embedded, found all {self.totals['input_rows']:,} rejected; the first is "
                f"{self.first_reject}; `embed-corpus rejects` lists them"
            )
        if not self.run.missing_chunks:
            return ""
        causes = dict.fromkeys(f"{failure.source}: {failure.error}" for failure in self.failures[:3])
        why = f" ({'; '.join(causes)})" if causes else ""
        return f"{self.run.missing_chunks} chunks did not finish{why}; run again"


def run(
    input: Input,
    store: Store,
    config: Config,
    *,
    fan_out: FanOut,
    options: RunOptions = DEFAULT,
    meter: Meter | None = None,
) -> Outcome:
    """Embed what `input` holds and `store` lacks; a first run, a resumed run and a no-op are this same call.

    Where parts are to be replaced, the new ones wait until all are there. `meter` says what the run cost; without one
    its engine's time costs `modal.usd_per_hour`. Raises, before anything is embedded, UsageError for an input that
    cannot be read, RecipeError for an output of another recipe and OutputLockedError for one that another run holds.
    """
    began = time.monotonic()
    check_place(input, store)
    input = pinned(input)
    record = _record(input, options)
    found = None if store.root.exists() else find_files(input)  # what cannot be read leaves no folder behind
    with store.lock(), ExitStack() as at_work:
        store.reload()
        sweep(store)
        plan = make_plan(input, store, config, replace(options, streams=True), found)
        _say_what_else_happens(plan, store, config)
        inventory = plan.inventory
        record = msgspec.structs.replace(
            record,
            planned_rows=plan.n_rows_in_all,
            **expected(plan, config),
            skipped_files=tuple(plan.corpus.skipped),
            duplicate_ids=inventory.manifest.run.duplicate_ids if inventory.manifest.run else 0,
        )
        change = Transaction(store=store, dataset=inventory.dataset, replaces=inventory.replaces)
        seen = {line.source: line for line in inventory.seen(plan.readable)}
        change.begin(inventory.manifest, record, inventory.kept, seen, adds=bool(plan.chunks))
        at_work.enter_context(_shown(store))
        job = _job(plan, config, record)
        made = carry(plan.inventory, change)
        reused, remaining = _reuse(plan, job, change)
        made += reused
        store.commit()
        done = make(remaining, plan, job, change, fan_out)
        made += done.receipts
        receipts = inventory.kept | {receipt.part: receipt for receipt in made}
        missing = count_missing(done.outstanding, made) + len(plan.bad)
        record = msgspec.structs.replace(
            _counted(record, made, missing),
            kept_rows=sum(receipt.embedded_rows for receipt in inventory.kept.values()),
            load_s=round(done.held.load_s, 3),
            engine_busy=done.held.busy,
            cost_usd=round(meter.spent_usd() if meter else done.held.cost_usd(config.modal.usd_per_hour), 4),
            peak_rss_bytes=peak_rss_bytes(),
            wall_s=round(time.monotonic() - began, 3),
        )
        board().enter(CHECKING)
        record, sums = _finish(change, plan, receipts, record)
        store.commit()
    first = "" if missing or sums["embedded_rows"] else _first_reject(store, receipts)
    return Outcome(run=record, totals=sums, failures=done.failures, first_reject=first)


def _job(plan: Plan, config: Config, record: Run) -> Job:
    return Job(
        root=plan.corpus.root,
        columns=plan.corpus.columns,
        config=config,
        staged=plan.inventory.replaces,
        began_at=record.started_at,
    )


@contextmanager
def _shown(store: Store) -> Iterator[None]:
    """Show others how far the run is; what was shown last stays where it does not end well."""

    def show(progress: Progress) -> None:
        store.volume.show(store.root, progress)

    seen = board()
    with seen.heard_by(show), repeating(lambda: show(seen.look()), SHOW_EVERY_S, "progress"):
        yield
    store.volume.show(store.root, None)


def _first_reject(store: Store, receipts: Mapping[str, Receipt]) -> str:
    return next(map(describe_reject, iter_rejects(store, receipts.values())), "")


def _say_what_else_happens(plan: Plan, store: Store, config: Config) -> None:
    """Name the files that are not ours, and the rows that leave; raises RemovalError when those are too many."""
    if foreign := foreign_files(store, plan.inventory.manifest.receipts):
        more = f" and {len(foreign) - 3:,} more" if len(foreign) > 3 else ""
        note(f"output {store.root}: {', '.join(foreign[:3])}{more}: made by no run, and left alone; move it away")
    leaving = removal(plan, store) if plan.options.prune else check_removal(plan, store, config.run.max_removed)
    if leaving.rows:
        note(f"output {store.root}: removes {leaving.in_words()}")


def _record(input: Input, options: RunOptions) -> Run:
    return Run(
        state="started",
        input=in_words(input),
        started_at=time.time(),
        limit=options.limit,
        keep_missing=options.keep_missing,
    )


def _reuse(plan: Plan, job: Job, change: Transaction) -> tuple[list[Receipt], list[Chunk]]:
    """Make the chunks that need no engine; return their receipts and the other chunks."""
    index = reusable_vectors(plan, change.store)
    if not len(index.keys):
        return [], list(plan.chunks)
    made: list[Receipt] = []
    remaining: list[Chunk] = []
    for outcome in reuse(plan.chunks, job, index, change.place.without_commits(), change.staging):
        if isinstance(outcome, Receipt):
            change.add(outcome)
            made.append(outcome)
        else:
            remaining.append(outcome)
    return made, remaining


def _counted(record: Run, made: Sequence[Receipt], missing: int) -> Run:
    return msgspec.structs.replace(
        record,
        state="incomplete" if missing else "complete",
        missing_chunks=missing,
        reused_rows=sum(receipt.reused_rows for receipt in made),
        embedded_now=sum(receipt.engine_texts for receipt in made),
        engine_calls=sum(receipt.engine_calls for receipt in made),
        engine_tokens=sum(receipt.engine_tokens for receipt in made),
        engine_s=round(sum(receipt.engine_s for receipt in made), 3),
    )


def _finish(
    change: Transaction, plan: Plan, receipts: Mapping[str, Receipt], record: Run
) -> tuple[Run, dict[str, Any]]:
    """Make the manifest say what is there now; return the record of the run, and the sums over the dataset."""
    inventory, store = plan.inventory, change.store
    if change.replaces and record.missing_chunks:
        store.append(record)
        return record, totals(inventory.manifest.receipts.values())
    new = {
        part: None for part in receipts if change.replaces and (part in inventory.staged or part not in inventory.kept)
    }
    old = [part for part in inventory.leaving if part not in receipts]

    def path(part: str) -> Path:
        return (change.place if part in new else store).data_path(part)

    previous = inventory.manifest.run
    if receipts.keys() != inventory.kept.keys() or old or previous is None or previous.state == "started":
        n_rows = sum(receipt.embedded_rows for receipt in receipts.values())
        n_duplicates = count_duplicate_ids(map(path, receipts)) if n_rows <= MAX_COUNTED_ROWS else None
        record = msgspec.structs.replace(record, duplicate_ids=n_duplicates)
    sums = _reconciled(receipts)
    if change.replaces:
        named = inventory.manifest.receipts
        were_there = (part for part in old if part in named or not named)  # others a crash left beside them
        removed = count_removed([*map(store.data_path, were_there)], [*map(path, new)])
        record = msgspec.structs.replace(record, removed_rows=removed)
    change.commit(record, receipts.values(), inventory.seen(plan.readable), new=new, old=old)
    write_card(store, inventory.dataset, sums)
    return record, sums


def _reconciled(receipts: Mapping[str, Receipt]) -> dict[str, Any]:
    sums = totals(receipts.values())
    if sums["input_rows"] != sums["embedded_rows"] + sums["rejected_rows"]:
        raise PipelineError(
            f"expected every input row embedded or rejected, found {sums['input_rows']:,} rows but "
            f"{sums['embedded_rows']:,} embedded and {sums['rejected_rows']:,} rejected; please report this"
        )
    return sums
