"""Dispatch: hand chunks to a pool, and find the rows that kill its processes.

An attempt is recorded before it begins, and its record is removed when it ends. A record that stays says that its
process died. A chunk that died twice is isolated, so that no other chunk is blamed with it. At its third death
it is halved; a half that dies is halved at once; a row that dies three times by itself is rejected. All others are
embedded.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.chunk import Chunk, Shard
from pipeline.corpus import ChunkReader
from pipeline.dataset import Attempt, Attempts, Receipt, Store, deaths_of
from pipeline.driver.cut import halves, pieces, without_unreadable
from pipeline.engines import Embedded, MadeBy
from pipeline.errors import CorpusError
from pipeline.worker import Failure, Job, Memory, embed_or_fail

ISOLATE_AFTER = 2  # deaths; one may well be the fault of another chunk, of a preemption or of a reset
MAX_DEATHS = 3
GIVE_UP_AFTER = 12  # deaths without a success between them: what they have in common is not in the rows


class Pool(Protocol):
    """Where chunks are embedded: threads of this process, or containers elsewhere."""

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        """Embed chunks, each given with its deaths, and yield what they came to, in any order.

        A pool takes a chunk when it has room for one, because others may join the line meanwhile.
        """
        ...

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        """Embed a chunk while no other is embedded; one that dies becomes a Failure with its new number of deaths."""
        ...


def dispatch(
    chunks: Iterable[Chunk],
    job: Job,
    store: Store,
    pool: Pool,
    *,
    may_go_on: Callable[[], bool] = lambda: True,
    max_failures_at_start: float = math.inf,
) -> Iterator[Receipt | Failure]:
    """Embed chunks and yield what they came to; those that died twice are isolated, at the end.

    A chunk is asked for when the pool has room for it.
    `may_go_on` is asked before each chunk is handed out. What it keeps back waits for those in flight, after which it
    is asked once more. A chunk that dies joins the line again. It becomes a Failure only if the run ends without it:
    where `may_go_on` ends it, or after `max_failures_at_start` without a success, deaths among them.
    """
    attempts = store.volume.attempts(store.root)
    known = attempts.read()
    isolated: list[Chunk] = []
    fresh = divide(chunks, job, known, isolated)
    waiting: deque[tuple[Chunk, int]] = deque()  # those that join the line again
    in_flight: dict[str, Chunk] = {}
    died: dict[str, Failure] = {}  # by chunk: those in line again, or to be isolated
    start = _Start(max_failures=max_failures_at_start)

    def take() -> tuple[Chunk, int] | None:
        return next(fresh, None) or (waiting.popleft() if waiting else None)

    def line(each: tuple[Chunk, int] | None) -> Iterator[tuple[Chunk, int]]:
        while each is not None:
            in_flight[each[0].id] = each[0]
            yield each
            each = take() if may_go_on() else None

    while not start.failed and may_go_on() and (first := take()):
        for outcome in pool.map(line(first)):
            start.count(outcome)
            chunk = in_flight.pop(outcome.chunk, None)
            if chunk is not None and isinstance(outcome, Failure) and outcome.deaths:
                died[chunk.id] = outcome
                if outcome.deaths >= ISOLATE_AFTER:
                    isolated.append(chunk)
                else:
                    waiting.append((chunk, outcome.deaths))
            else:
                died.pop(outcome.chunk, None)
                if chunk is not None and isinstance(outcome, Failure):
                    rest = without_unreadable(chunk, outcome.source, job)
                    waiting += [(rest, 0)] if rest is not None else []
                yield outcome
            if start.failed:
                break
    if start.failed or not may_go_on():
        yield from died.values()
        return
    for outcome in embed_isolated(isolated, job, store, attempts, pool.one, may_go_on=may_go_on):
        start.count(outcome)
        yield outcome
        if start.failed:
            return


@dataclass(slots=True, kw_only=True)
class _Start:
    """The outcomes of a run up to its first success: what fails again and again until then is not in the chunks."""

    max_failures: float
    n_failures: int = 0
    succeeded: bool = False

    def count(self, outcome: Receipt | Failure) -> None:
        self.succeeded |= isinstance(outcome, Receipt)
        self.n_failures += isinstance(outcome, Failure)

    @property
    def failed(self) -> bool:
        return self.n_failures >= self.max_failures and not self.succeeded


class NoEngine:
    """In an engine's place for a row that must not meet one: refuses everything, and says why."""

    ready_at = 0.0
    made_by = MadeBy()

    def __init__(self, why: str) -> None:
        self._why = why

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        """Return a refusal of every passage."""
        vectors = np.zeros((len(token_ids), dim), np.float16)
        return Embedded(vectors=vectors, refused=dict.fromkeys(range(len(token_ids)), self._why))


def divide(
    chunks: Iterable[Chunk], job: Job, attempts: Sequence[Attempt], isolated: list[Chunk]
) -> Iterator[tuple[Chunk, int]]:
    """Yield the chunks to make as usual, each with its deaths; those to isolate are added to `isolated`.

    A chunk is cut where one that was attempted begins or ends, so that what is known of its pieces counts.
    """
    of_shard: dict[Shard, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        for shard in {each.shard for each in attempt.chunk.spans}:
            of_shard[shard].append(attempt)
    for chunk in chunks:
        found = {a.chunk.id: a for each in chunk.spans for a in of_shard.get(each.shard, ())} if of_shard else {}
        known = list(found.values())
        for piece in pieces(chunk, known, job) if known else [chunk]:
            deaths = deaths_of(piece, known)
            if deaths >= ISOLATE_AFTER or _is_half_of_poison_chunk(piece, known):
                isolated.append(piece)
            else:
                yield piece, deaths


def embed_isolated(
    chunks: Sequence[Chunk],
    job: Job,
    store: Store,
    attempts: Attempts,
    embed: Callable[[Chunk, int], Receipt | Failure],
    *,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Iterator[Receipt | Failure]:
    """Embed chunks one after the other, those that died least first, and halve those that go on dying.

    `embed` takes a chunk and its deaths; where it outlives them, it returns a Failure with their new number.
    `may_go_on` is asked before each of its calls.
    """
    known = attempts.read()
    waiting = deque(sorted(chunks, key=lambda chunk: deaths_of(chunk, known)))
    in_a_row = 0
    while waiting and in_a_row < GIVE_UP_AFTER:
        chunk = waiting.popleft()
        deaths = deaths_of(chunk, known)
        if deaths >= (1 if chunk.n_rows > 1 and _is_half_of_poison_chunk(chunk, known) else MAX_DEATHS):
            if chunk.n_rows > 1:
                try:
                    waiting.extend(halves(chunk, job))
                except CorpusError as error:
                    yield Failure(chunk=chunk.id, source=chunk.source, error=str(error))
            else:
                why = f"the process died {deaths} times with this row alone"
                with ChunkReader() as reader:
                    yield embed_or_fail(chunk, job, NoEngine(why), store, reader, Memory())
            continue
        if not may_go_on():
            return
        outcome = embed(chunk, deaths)
        if isinstance(outcome, Failure) and outcome.deaths > deaths:
            known = attempts.read()
            waiting.append(chunk)
            in_a_row += 1
            continue
        in_a_row = 0
        yield outcome
    if not waiting:
        for attempt in attempts.read():
            attempts.put(attempt.chunk, 0)
    for chunk in waiting:
        why = f"died {deaths_of(chunk, known)} times, as did all others lately: not for its rows, it seems"
        yield Failure(chunk=chunk.id, source=chunk.source, error=why)


def _is_half_of_poison_chunk(chunk: Chunk, attempts: Sequence[Attempt]) -> bool:
    return any(
        attempt.deaths >= MAX_DEATHS and chunk in attempt.chunk and chunk.n_rows < attempt.chunk.n_rows
        for attempt in attempts
    )
