"""The fan-out on Modal: chunks are embedded by the service, wherever its containers are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import modal

from jobs import resources
from jobs.embedding_service import VLLMEmbeddingSnapshot
from jobs.request import Request
from jobs.volume import OutputLock
from pipeline.chunk import Chunk
from pipeline.config import Config, load_config
from pipeline.dataset import Receipt, Store
from pipeline.driver import FanOut, dispatch
from pipeline.errors import PipelineError
from pipeline.model import modal_device
from pipeline.worker import Failure, Job, pack, unpack_outcome

WINDOW_CHUNKS = 64  # handed to one map for each container: about an hour of work
COMMIT_EVERY_S = 10.0
MAX_FAILURES_AT_START = 6  # chunks that fail before any succeeds: what they have in common is not in the chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """A pool of containers of the service.

    Modal starts a dead container's chunks again for ever; the service reports them instead of trying again.
    """

    service: Any
    n_containers: int
    job: Job
    output: str

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        """Embed chunks, each given with its deaths, in one map after the other, and yield what they came to."""
        while window := list(islice(line, WINDOW_CHUNKS * self.n_containers)):
            references, deaths = [pack(chunk) for chunk, _ in window], [n for _, n in window]
            results = self.service.embed_chunk.map(
                references, deaths, kwargs=self._shared(), order_outputs=False, return_exceptions=True
            )
            yield from map(_outcome, results)

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        """Embed a chunk while no other is embedded."""
        try:
            return _outcome(self.service.embed_chunk.remote(pack(chunk), deaths, **self._shared()))
        except Exception as error:  # noqa: BLE001  what a map would return
            return _outcome(error)

    def _shared(self) -> dict[str, Any]:
        return {"job": pack(self.job), "output": self.output}


def fan_out_to_containers(request: Request, config: Config, store: Store, lock: OutputLock, until: float) -> FanOut:
    """Return a fan-out over the service; it ends at `until`, in seconds since the epoch.

    On the way it commits the manifest and reports progress. Raises OutputLockedError when the lock is lost.
    """

    def fan_out(chunks: Sequence[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        n_rows = sum(chunk.span.n_rows for chunk in chunks)
        rows, tokens = 0, 0
        committed_at = time.monotonic()
        service, n_containers = _service(request, config)
        pool = Containers(service=service, n_containers=n_containers, job=job, output=request.output)
        for outcome in dispatch(
            chunks,
            job,
            store,
            pool,
            may_go_on=lambda: time.time() < until,
            max_failures_at_start=MAX_FAILURES_AT_START,
        ):
            yield outcome
            if isinstance(outcome, Receipt):
                rows, tokens = rows + outcome.input_rows, tokens + outcome.tokens
            lock.report_progress(rows=rows, n_rows=n_rows, tokens=tokens)
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


def _service(request: Request, config: Config) -> tuple[Any, int]:
    """Return the deployed class, or where there is none the one in this app, and how many containers it may have."""
    service: Any
    try:
        service = modal.Cls.from_name(resources.SERVICE_APP, resources.SERVICE_CLASS)
        service.hydrate()
    except modal.exception.NotFoundError:
        print(f"{resources.SERVICE_APP} is not deployed: this run uses its own class, which starts without a snapshot")
        service = VLLMEmbeddingSnapshot
    gpu, n_containers = request.gpu or config.modal.gpu, request.max_containers or config.modal.max_containers
    if gpu != resources.RENTED.gpu or n_containers != 1:
        service = service.with_options(gpu=gpu or None, max_containers=n_containers)
    dtype = load_config(resources.REPOSITORY / request.config).model.dtype
    if dtype == "auto" and config.model.dtype != modal_device(config.modal.gpu).dtype:
        return service(config=request.config, dtype=config.model.dtype), n_containers
    return service(config=request.config), n_containers
