"""Make chunks: hand them to a fan-out, and see what is there in the end."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import msgspec

from pipeline.chunk import Chunk, ShardSpan
from pipeline.console import PUBLISHING, board
from pipeline.dataset import Receipt, Transaction
from pipeline.driver.cost import Held
from pipeline.driver.fan_out import FanOut
from pipeline.driver.plan import Plan
from pipeline.driver.speed import last_load_s
from pipeline.worker import Failure, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of chunks."""

    receipts: list[Receipt]  # of parts that are there
    failures: tuple[Failure, ...]
    outstanding: list[Chunk]  # that nobody reported; there may be parts of their pieces, or of themselves
    held: Held


def make(chunks: Sequence[Chunk], plan: Plan, job: Job, change: Transaction, fan_out: FanOut) -> Made:
    """Embed these chunks and the rest of a plan; what is reported is named in the manifest at once.

    The store is the truth: a part may be there that nobody reported, and what was reported from an old view of a
    volume may not be.
    """
    outstanding: dict[str, Chunk] = {}
    reported, failures, held = _embed(chunks, plan, job, change, fan_out, outstanding)
    board().enter(PUBLISHING)
    change.store.reload()
    sizes = change.place.part_sizes()
    there = [receipt for receipt in reported if sizes.get(receipt.part) == receipt.size_bytes]
    for receipt in reported:
        if sizes.get(receipt.part) != receipt.size_bytes:
            outstanding[receipt.chunk] = Chunk(id=receipt.chunk, spans=receipt.spans)
    silent = (change.place.receipt_of(chunk.part_name) for chunk in outstanding.values())
    adopted = [receipt for receipt in silent if receipt is not None]
    for receipt in adopted:
        change.add(receipt)
    return Made(
        receipts=[*there, *adopted], failures=tuple(failures), outstanding=list(outstanding.values()), held=held
    )


def _embed(
    chunks: Sequence[Chunk],
    plan: Plan,
    job: Job,
    change: Transaction,
    fan_out: FanOut,
    outstanding: dict[str, Chunk],
) -> tuple[list[Receipt], list[Failure], Held]:
    """Leave the chunks that nobody reported in `outstanding`, by their ids."""
    made: dict[str, Receipt] = {}
    failures: list[Failure] = []
    held = Held(time.time())
    n_rows = max(sum(chunk.n_rows for chunk in chunks), plan.n_rest_rows)
    if chunks:
        noted = _noted(chain(chunks, plan.rest), outstanding)
        weight = max(sum(_weight(chunk.spans, plan) for chunk in chunks), plan.rest_tokens)
        board().embed(
            n_rows=n_rows,
            weight=weight,
            kept_rows=max(0, plan.n_rows_in_all - n_rows),
            last_load_s=last_load_s(job.config),
        )
        with _ended(fan_out(noted, replace(job, n_rows=n_rows))) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                    continue
                held.add(outcome, time.time())
                change.add(outcome)
                chunk = outstanding.pop(outcome.chunk, None)
                spans = chunk.spans if chunk else outcome.spans  # equal, but the same objects for all of a run
                made[outcome.chunk] = msgspec.structs.replace(outcome, spans=spans)
                board().finish(
                    rows=outcome.input_rows,
                    rejected=outcome.rejected_rows,
                    tokens=outcome.engine_tokens,
                    weight=_weight(spans, plan),
                )
        deque(islice(noted, len(chunks) + 1), maxlen=0)  # those that were never asked for; of a stream one tells
    failures += [Failure(chunk="", source=source, error=why) for source, why in plan.bad.items()]
    return list(made.values()), failures, held


def _weight(spans: Iterable[ShardSpan], plan: Plan) -> float:
    return sum(plan.measured.density.n_tokens(each.span) for each in spans)


@contextlib.contextmanager
def _ended(outcomes: Iterable[Receipt | Failure]) -> Iterator[Iterable[Receipt | Failure]]:
    """Let a fan-out end before an error leaves: its threads may still write, and the output is let go next."""
    outcomes = iter(outcomes)
    try:
        yield outcomes
    except Exception as error:
        if isinstance(outcomes, Generator):
            outcomes.throw(error)
        raise


def _noted(chunks: Iterable[Chunk], outstanding: dict[str, Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        outstanding[chunk.id] = chunk
        yield chunk
