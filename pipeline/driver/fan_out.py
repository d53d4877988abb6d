"""The seam between a run and where its chunks are embedded, and the fan-out for this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice

from pipeline.chunk import Chunk
from pipeline.console import Work, board, note
from pipeline.corpus import ChunkReader
from pipeline.dataset import Receipt, Store
from pipeline.driver.dispatch import dispatch
from pipeline.engines import EngineThread
from pipeline.worker import Failure, Job, Memory, attempt, embed_or_fail

IN_FLIGHT = 2  # chunks: one in the engine, the other being read, tokenised or written

FanOut = Callable[[Iterable[Chunk], Job], Iterable[Receipt | Failure]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads:
    """A pool of this process: IN_FLIGHT chunks, one engine."""

    threads: ThreadPoolExecutor
    engine: EngineThread
    job: Job
    store: Store
    reader: ChunkReader
    memory: Memory

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        """Embed chunks, each given with its deaths, and yield what they came to as they finish."""
        flying: set[Future[Receipt | Failure]] = {
            self.threads.submit(self.one, *each) for each in islice(line, IN_FLIGHT)
        }
        while flying:
            landed, flying = wait(flying, return_when=FIRST_COMPLETED)
            flying |= {self.threads.submit(self.one, *each) for each in islice(line, len(landed))}
            for future in landed:
                yield future.result()

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        """Embed a chunk; one that kills this process is known to the next run by its attempt."""
        with attempt(self.store.volume.attempts(self.store.root), chunk, deaths, self.engine) as engine:
            return embed_or_fail(chunk, self.job, engine, self.store, self.reader, self.memory)


def fan_out_here(store: Store) -> FanOut:
    """Return a fan-out over this process: one engine thread, two chunks in flight.

    A chunk whose shard cannot be read becomes a Failure; an engine that does not load or that breaks ends the run
    with its EngineError.
    """

    def fan_out(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        engine = EngineThread(job.config)
        reader = ChunkReader()
        threads = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunk")
        pool = Threads(threads=threads, engine=engine, job=job, store=store, reader=reader, memory=Memory())
        board().watch(partial(_work, engine, job.config.modal.usd_per_hour / 3600))
        with ExitStack() as on_leaving:
            on_leaving.push(partial(_end, engine.close))
            on_leaving.callback(reader.close)
            on_leaving.push(partial(_end, threads.shutdown))
            yield from dispatch(chunks, job, store, pool)

    return fan_out


def _work(engine: EngineThread, usd_per_s: float) -> Work:
    """Return what an engine of this process is at, and what it has cost since it was ready."""
    ready_at = engine.ready_at
    spent_usd = (time.time() - ready_at) * usd_per_s if ready_at else 0.0
    return Work(ready_at=ready_at, tokens=engine.n_under_way, spent_usd=spent_usd, usd_per_s=usd_per_s)


def saying(line: str, fan_out: FanOut) -> FanOut:
    """Return a fan-out that writes a line on stderr first, if there is one; a run that embeds nothing does not."""

    def said(chunks: Iterable[Chunk], job: Job) -> Iterable[Receipt | Failure]:
        if line:
            note(line)
        return fan_out(chunks, job)

    return said


def _end(close: Callable[..., None], kind: type[BaseException] | None, *_: object) -> None:
    """Let threads finish what they have begun, unless the run is stopped: then leave them to it."""
    close(wait=kind is None or issubclass(kind, Exception))
