"""The seam between a run and where its chunks are embedded, and the fan-out for this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from itertools import islice

from pipeline.chunk import Chunk
from pipeline.corpus import parked
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.dataset.volume import deaths_of
from pipeline.driver.dispatch import divide, embed_alone
from pipeline.engines.thread import EngineThread
from pipeline.worker.attempts import attempt
from pipeline.worker.embed import Failure, Job, embed_or_fail

IN_FLIGHT = 2  # chunks: one in the engine, the other being read, tokenised or written

FanOut = Callable[[Sequence[Chunk], Job], Iterable[Receipt | Failure]]


def fan_out_here(store: Store) -> FanOut:
    """Return a fan-out over this process: one engine thread, two chunks in flight.

    A chunk whose shard cannot be read becomes a Failure; an engine that does not load or that breaks ends the run
    with its EngineError. A chunk that kills the process is known to the next run by its attempt.
    """

    def fan_out(chunks: Sequence[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        engine = EngineThread(job.config)
        attempts = store.volume.attempts(store.root)
        known = attempts.read()
        usual, alone = divide(chunks, job, known)

        def embed(chunk: Chunk, deaths: int) -> Receipt | Failure:
            with attempt(attempts, chunk, deaths, engine) as counted:
                return embed_or_fail(chunk, job, counted, store)

        waiting = ((chunk, deaths_of(chunk, known)) for chunk in usual)
        pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunk")
        with ExitStack() as on_leaving:
            on_leaving.push(partial(_end, engine.close))
            on_leaving.callback(parked.release)
            on_leaving.push(partial(_end, pool.shutdown))
            flying: set[Future[Receipt | Failure]] = {pool.submit(embed, *one) for one in islice(waiting, IN_FLIGHT)}
            while flying:
                landed, flying = wait(flying, return_when=FIRST_COMPLETED)
                flying |= {pool.submit(embed, *one) for one in islice(waiting, len(landed))}
                for future in landed:
                    yield future.result()
            yield from embed_alone(alone, job, store, attempts, embed)

    return fan_out


def _end(close: Callable[..., None], kind: type[BaseException] | None, *_: object) -> None:
    """Let threads finish what they have begun, unless the run is stopped: then leave them to it."""
    close(wait=kind is None or issubclass(kind, Exception))
