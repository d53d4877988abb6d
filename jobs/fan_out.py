"""The fan-out on Modal: chunks are embedded by the service, wherever its containers are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import modal

from jobs import resources
from jobs.budget import Budget
from jobs.containers import containers_since
from jobs.pool import Pool
from jobs.request import Request
from jobs.volume import OutputLock
from pipeline.chunk import Chunk
from pipeline.console import note
from pipeline.dataset import Receipt, Store
from pipeline.driver import FanOut, dispatch
from pipeline.errors import PipelineError
from pipeline.worker import Failure, Job, pack, unpack_outcome

IN_FLIGHT = 3  # chunks handed out for each container: two in it, and one that waits for it
COMMIT_EVERY_S = 10.0
MAX_FAILURES_AT_START = 6  # chunks that fail before any succeeds: what they have in common is not in the chunks
FIRST_CHUNK_S = 300.0  # that a chunk may take, before one has been seen to end
PATIENCE_CHUNKS = 3


@dataclass(slots=True, kw_only=True)
class Containers:
    """A pool of containers of the service, fed from one map as long as there are chunks.

    Modal starts a dead container's chunks again for ever; the service reports them instead of trying again. A container
    that cannot start says nothing at all: after the time of a start and of PATIENCE_CHUNKS chunks without an outcome
    the map is cancelled and the pool gives up.
    """

    pool: Pool
    job: Job
    output: str
    lock: OutputLock
    budget: Budget
    began_at: float  # in seconds since the epoch
    gave_up: bool = False
    longest_s: float = FIRST_CHUNK_S  # between two outcomes

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        """Embed chunks, each given with its deaths, and yield what they came to; takes one where it has room."""
        is_over = False
        with asyncio.Runner() as runner:
            room = asyncio.Semaphore(IN_FLIGHT * self.pool.n_containers)
            results = self.pool.service.embed_chunk.starmap.aio(
                self._fed(line, room), kwargs=self._shared(), order_outputs=False, return_exceptions=True
            )
            try:
                while True:
                    asked_at = time.monotonic()
                    try:
                        result = runner.run(asyncio.wait_for(anext(results), self._patience_s()))
                    except StopAsyncIteration:
                        is_over = True
                        return
                    except TimeoutError:
                        yield self._give_up()
                        return
                    self.longest_s = max(self.longest_s, time.monotonic() - asked_at)
                    room.release()
                    outcome = _outcome(result)
                    self.budget.count(outcome)
                    yield outcome
            finally:
                if not is_over:
                    cancel_children(self.lock)

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        """Embed a chunk while no other is embedded."""
        [outcome] = self.map(iter([(chunk, deaths)]))
        return outcome

    async def _fed(
        self, line: Iterator[tuple[Chunk, int]], room: asyncio.Semaphore
    ) -> AsyncIterator[tuple[dict[str, Any], int]]:
        while True:
            await room.acquire()
            if (each := next(line, None)) is None:
                return
            self.budget.n_in_flight += 1
            yield pack(each[0]), each[1]

    def _shared(self) -> dict[str, Any]:
        return {"job": pack(self.job), "output": self.output}

    def _patience_s(self) -> float:
        return resources.STARTUP_TIMEOUT_S + PATIENCE_CHUNKS * self.longest_s

    def _give_up(self) -> Failure:
        self.gave_up = True
        why = f"no chunk ended within {self._patience_s() / 60:.0f} minutes; {last_words(self.output, self.began_at)}"
        return Failure(chunk="", source="the service", error=why)


def fan_out_to_containers(
    request: Request, pool: Callable[[], Pool], store: Store, lock: OutputLock, budget: Budget, until: float
) -> FanOut:
    """Return a fan-out over the service, whose `pool` is looked for once there are chunks.

    No chunk is handed out from `until` on, in seconds since the epoch, nor above the budget. On the way it commits the
    manifest. Raises OutputLockedError when the lock is lost.
    """

    def fan_out(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        committed_at = time.monotonic()
        found = pool()
        print(f"about {job.n_rows:,} rows for {found.in_words}")
        containers = Containers(
            pool=found, job=job, output=request.output, lock=lock, budget=budget, began_at=time.time()
        )

        def may_go_on() -> bool:
            return time.time() < until and not containers.gave_up and budget.fits_one_more()

        at_start = MAX_FAILURES_AT_START
        for outcome in dispatch(chunks, job, store, containers, may_go_on=may_go_on, max_failures_at_start=at_start):
            yield outcome
            lock.check_held()
            if time.monotonic() - committed_at > COMMIT_EVERY_S:
                store.commit()
                committed_at = time.monotonic()

    return fan_out


def _outcome(result: dict[str, Any] | Exception) -> Receipt | Failure:
    """Return what a chunk came to; raises an error that every other chunk would meet too."""
    if isinstance(result, PipelineError):
        raise result
    if isinstance(result, Exception):
        return Failure(chunk="", source="a container", error=f"{type(result).__name__}: {result}")
    return unpack_outcome(result)


def last_words(output: str, began_at: float) -> str:
    """Return what is known of the containers that might have worked for an output since `began_at`."""
    records = sorted(containers_since(began_at), key=lambda record: record.seen_at)
    records = [record for record in records if not record.outputs or output in record.outputs]
    for record in reversed(records):
        if record.error:
            return f"its container says: {record.error}"
    for record in reversed(records):
        return f"its container, started {time.time() - record.started_at:.0f} s ago, had not loaded the model by then"
    return f"no container has begun: `modal app logs {resources.SERVICE_APP}` says why"


def cancel_children(lock: OutputLock) -> None:
    """Cancel the calls that this call has made and that have not ended, unless it goes on elsewhere.

    Modal itself does so within two minutes after this call has ended; until then new containers might start for them.
    A driver that was preempted may end beside its successor, which is the same call: the children are not its own any
    more once the successor has the lock.
    """
    mine = modal.current_function_call_id()
    if mine is None:
        return
    try:
        if not lock.is_ours():
            return
        waiting = [*modal.FunctionCall.from_id(mine).get_call_graph()]
        calls = set()
        while waiting:
            each = waiting.pop()
            waiting += each.children
            if each.function_call_id != mine and each.status == modal.types.InputStatus.PENDING:
                calls.add(each.function_call_id)
        for call in calls:
            modal.FunctionCall.from_id(call).cancel()
    except modal.exception.Error as error:
        note(f"chunks that were handed out could not be cancelled ({error}); Modal does so within two minutes")
