"""The seam between a run and where its chunks are embedded, and the fan-out for this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from itertools import islice

from pipeline import lines
from pipeline.engine import EngineThread
from pipeline.engines import make_embedder
from pipeline.errors import CorpusError, EngineError
from pipeline.manifest import Receipt
from pipeline.plan import Chunk
from pipeline.store import Store
from pipeline.worker import Failure, Job, embed_chunk

IN_FLIGHT = 2  # chunks: one in the engine, the other being read, tokenised or written

FanOut = Callable[[Sequence[Chunk], Job], Iterable[Receipt | Failure]]


def fan_out_here(store: Store) -> FanOut:
    """Return a fan-out over this process: one engine thread, two chunks in flight.

    A chunk whose shard cannot be read or whose engine call raises becomes a Failure; an engine that does not load
    ends the run with its EngineError.
    """

    def fan_out(chunks: Sequence[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        engine = EngineThread(partial(make_embedder, job.config), batch_passages=job.config.engine.batch_passages)

        def embed(chunk: Chunk) -> Receipt | Failure:
            try:
                return embed_chunk(chunk, job, engine, store)
            except (CorpusError, EngineError) as error:
                if isinstance(error, EngineError) and not engine.ready_at:
                    raise
                return Failure(chunk=chunk.id, source=chunk.shard.source, error=str(error))

        waiting = iter(chunks)
        pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunk")
        with ExitStack() as on_leaving:
            on_leaving.push(partial(_end, engine.close))
            on_leaving.callback(lines.release)
            on_leaving.push(partial(_end, pool.shutdown))
            flying: set[Future[Receipt | Failure]] = {pool.submit(embed, chunk) for chunk in islice(waiting, IN_FLIGHT)}
            while flying:
                landed, flying = wait(flying, return_when=FIRST_COMPLETED)
                flying |= {pool.submit(embed, chunk) for chunk in islice(waiting, len(landed))}
                for future in landed:
                    yield future.result()

    return fan_out


def _end(close: Callable[..., None], kind: type[BaseException] | None, *_: object) -> None:
    """Let threads finish what they have begun, unless the run is stopped: then leave them to it."""
    close(wait=kind is None or issubclass(kind, Exception))
