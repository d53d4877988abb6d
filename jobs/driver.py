"""The driver: a run whose chunks are embedded by the service, wherever its containers are."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import modal
import msgspec

from jobs import resources
from jobs.embedding_service import VLLMEmbeddingSnapshot
from jobs.mount import check_inside, check_relative
from jobs.volume import ModalVolume, OutputLock
from pipeline.chunk import Chunk
from pipeline.config import Config, load_config
from pipeline.corpus.shards import find_shards
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.dataset.volume import deaths_of
from pipeline.driver.cost import estimate
from pipeline.driver.dispatch import ALONE_AFTER, divide, embed_alone
from pipeline.driver.fan_out import FanOut
from pipeline.driver.inventory import kept_dtype
from pipeline.driver.options import Options
from pipeline.driver.plan import survey
from pipeline.driver.run import run
from pipeline.errors import IncompleteError, PipelineError
from pipeline.model.checkpoint import prepare
from pipeline.model.dtype import modal_device, settle_dtype
from pipeline.model.files import locate
from pipeline.model.memory import check_memory
from pipeline.worker.container import pack, unpack_outcome
from pipeline.worker.embed import Failure, Job

WINDOW_CHUNKS = 64  # handed to one map for each container: about an hour of work
COMMIT_EVERY_S = 10.0
HOPELESS = 6  # chunks that fail before any succeeds: what they have in common is not in the chunks


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be embedded and how, as it travels."""

    input: str  # below the corpus volume
    output: str  # below the output volume
    config: str = resources.CONFIG
    dim: int = 0
    id_column: str = ""
    text_column: str = ""
    gpu: str = ""
    max_containers: int = 0
    limit: int = 0
    rebuild: bool = False


def packed(request: Request) -> dict[str, Any]:
    """Return a request as plain values, for the wire."""
    values: dict[str, Any] = msgspec.to_builtins(request)
    return values


def drive(request: Mapping[str, Any], *, began_at: float) -> dict[str, Any]:
    """Run a request and report how it ended; an error made on purpose is part of the report.

    `began_at`, in seconds since the epoch, is when the driver's own time began; `unfinished` says that it was up
    before the work was.
    """
    try:
        return _drive(msgspec.convert(request, Request), began_at)
    except PipelineError as error:
        return {"exit_code": error.exit_code, "error": str(error)}


def plan(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of a request, or the error that keeps it from being made."""
    try:
        asked = msgspec.convert(request, Request)
        target = _target(asked)
        config = _configured(asked)
        store = Store(root=resources.OUTPUT / asked.output)
        return {"exit_code": 0, **estimate(survey(target, store, config, _options(asked)), store, config)}
    except PipelineError as error:
        return {"exit_code": error.exit_code, "error": str(error)}


def _drive(request: Request, began_at: float) -> dict[str, Any]:
    target = _target(request)
    config = _configured(request)
    volume = ModalVolume()
    store = Store(root=resources.OUTPUT / request.output, volume=volume)
    until = began_at + config.modal.driver_hours * resources.HOURS
    fan_out = _fan_out(request, config, store, volume.lock(store.root), until)
    outcome = run(target, store, config, fan_out=fan_out, options=_options(request))
    record = outcome.run
    shortfall = outcome.shortfall()
    return {
        "exit_code": IncompleteError.exit_code if shortfall else 0,
        "error": shortfall and f"output {request.output}: {shortfall}",
        "unfinished": bool(record.missing_chunks and record.embedded_now and time.time() >= until),
        **outcome.totals,
        **msgspec.to_builtins(record),
    }


def _fan_out(request: Request, config: Config, store: Store, lock: OutputLock, until: float) -> FanOut:
    def fan_out(chunks: Sequence[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        n_rows = sum(chunk.span.n_rows for chunk in chunks)
        rows, tokens, failures = 0, 0, 0
        committed_at = time.monotonic()
        for outcome in _outcomes(request, config, store, chunks, job, until):
            yield outcome
            if isinstance(outcome, Receipt):
                rows, tokens = rows + outcome.input_rows, tokens + outcome.tokens
            else:
                failures += 1
            if failures >= HOPELESS and not rows:
                return
            lock.report_progress(rows=rows, n_rows=n_rows, tokens=tokens)
            lock.check_held()
            if time.monotonic() - committed_at > COMMIT_EVERY_S:
                store.commit()
                committed_at = time.monotonic()

    return fan_out


def _outcomes(
    request: Request, config: Config, store: Store, chunks: Sequence[Chunk], job: Job, until: float
) -> Iterator[Receipt | Failure]:
    """Embed chunks in one map after the other, and those that killed containers before alone, at the end.

    Modal starts a dead container's chunks again for ever; the service reports them instead of trying again.
    """
    service, n_containers = _service(request, config)
    shared = {"job": pack(job), "output": request.output}
    attempts = store.volume.attempts(store.root)
    known = attempts.read()
    usual, alone = divide(chunks, job, known)
    waiting = deque((chunk, deaths_of(chunk, known)) for chunk in usual)
    while waiting and time.time() < until:
        window = [waiting.popleft() for _ in range(min(len(waiting), WINDOW_CHUNKS * n_containers))]
        sent = {chunk.id: chunk for chunk, _ in window}
        references, so_far = [pack(chunk) for chunk, _ in window], [deaths for _, deaths in window]
        for result in service.embed_chunk.map(
            references, so_far, kwargs=shared, order_outputs=False, return_exceptions=True
        ):
            outcome = _outcome(result)
            if isinstance(outcome, Failure) and outcome.deaths >= ALONE_AFTER:
                alone.append(sent[outcome.chunk])
            elif isinstance(outcome, Failure) and outcome.deaths:
                waiting.append((sent[outcome.chunk], outcome.deaths))
            yield outcome

    def embed(chunk: Chunk, deaths: int) -> Receipt | Failure:
        try:
            return _outcome(service.embed_chunk.remote(pack(chunk), deaths, **shared))
        except Exception as error:  # noqa: BLE001  what a map would return
            return _outcome(error)

    for outcome in embed_alone(alone, job, store, attempts, embed) if time.time() < until else ():
        yield outcome
        if time.time() >= until:
            return


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


def _configured(request: Request) -> Config:
    check_relative("--output", request.output)
    path = check_relative("--config", request.config)
    columns = {"corpus.id": request.id_column, "corpus.text": request.text_column}
    overrides = [f"{key}={json.dumps(column)}" for key, column in columns.items() if column]
    config = prepare(load_config(resources.REPOSITORY / path, overrides, dim=request.dim or None))
    gpu = request.gpu or config.modal.gpu
    kept = kept_dtype(config, Store(root=resources.OUTPUT / request.output), rebuild=request.rebuild)
    config = settle_dtype(config, modal_device(gpu), kept=kept)
    check_memory(config, gpu)
    if config.engine.kind != "hashing":
        locate(config.model)  # all of it: a container without the weights would be paid for before it says so
    return config


def _options(request: Request) -> Options:
    return Options(limit=request.limit or None, rebuild=request.rebuild)


def _target(request: Request) -> str:
    """Return the input's path on the mounted corpus, as it is now; raises UsageError when it leads out of it."""
    below = check_relative("--input", request.input)
    resources.refresh()
    target = str(resources.CORPUS / below)
    check_inside(resources.CORPUS, *find_shards(target))
    return target
