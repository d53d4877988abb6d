"""The pool of a run: which class of the service embeds its chunks, on which GPU, in how many containers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import modal
import msgspec

from jobs import embedding_service, resources
from jobs.checks.record import measured
from jobs.request import Request
from pipeline.config import Config, load_config
from pipeline.driver import container_usd_per_s
from pipeline.errors import RecipeError, UsageError
from pipeline.model import modal_device

OWN_WINDOW_S = 15  # that containers of a run's own pool wait for a next chunk: longer than a chunk takes to arrive


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Containers of one kind, and how many there may be."""

    service: Any  # an instance of a class on Modal
    n_containers: int
    in_words: str


def idle_s(request: Request) -> float:
    """Return how long a container of the pool stays after its last call."""
    return OWN_WINDOW_S if request.own_pool else resources.SERVICE_IDLE_S


def usd_per_s(config: Config, gpu: str) -> float:
    """Return the price of a container; raises ConfigError where that is not known."""
    if config.modal.usd_per_hour:
        return config.modal.usd_per_hour / 3600
    memory_mib = resources.GPU_MEMORY_MIB if gpu else resources.CPU_MEMORY_MIB
    return container_usd_per_s(gpu, n_cpus=resources.SERVICE_CPUS, memory_gib=memory_mib / 1024)


def choose_pool(request: Request, config: Config) -> Pool:
    """Return the pool for a request; asks the service what it is and starts no engine.

    It is the service's own, which other callers share, unless the run wants another GPU, more containers or
    `--own-pool`, or a preflight found that containers do better without a snapshot: a class without one takes what GPU
    it is given, and none where the config has none. Raises UsageError where the service has
    other code and RecipeError where it has another model than the run asks for.
    """
    found, class_named = _about(request)
    _check_model(found, request, config)
    gpu, n_containers = request.gpu or config.modal.gpu, request.max_containers or config.modal.max_containers
    check = measured(config, gpu)
    without_snapshot = found["snapshot"] and check is not None and check.snapshot is False
    is_plain = (bool(found["gpu"]) and not gpu) or without_snapshot
    options: dict[str, Any] = {}
    if request.own_pool or n_containers != 1 or gpu not in ("", found["gpu"]) or (without_snapshot and gpu):
        options = {"max_containers": n_containers}
        options |= {"gpu": gpu} if gpu else {}
        options |= {"memory": resources.GPU_MEMORY_MIB} if gpu and is_plain else {}
        options |= {"scaledown_window": OWN_WINDOW_S} if request.own_pool else {}
    service = class_named(resources.CPU_CLASS if is_plain else resources.SERVICE_CLASS)
    service = service.with_options(**options) if options else service
    whose = "a pool of its own" if options else "the service's pool"
    many = "one container" if n_containers == 1 else f"up to {n_containers} containers"
    return Pool(
        service=service(**_parameters(request, config)),
        n_containers=n_containers,
        in_words=f"{whose}: {many}, {gpu or 'no GPU'}{', without a snapshot' if without_snapshot else ''}",
    )


def _about(request: Request) -> tuple[dict[str, Any], Any]:
    """Return what the service says of itself, and where its classes are: deployed, else in this app if it has them."""
    try:
        answer: dict[str, Any] = modal.Function.from_name(resources.SERVICE_APP, "about").remote(request.config)
    except modal.exception.NotFoundError:
        if request.own_class:
            print(
                f"{resources.SERVICE_APP} is not deployed: this run uses its own class, which starts without a snapshot"
            )
            return embedding_service.about.local(request.config), partial(getattr, embedding_service)
        answer = {"code": "none"}
    if answer["code"] != resources.code_digest():
        raise UsageError(
            f"app {resources.SERVICE_APP}: expected the code of this run, {resources.code_digest()}, found "
            f"{answer['code']} deployed; deploy it again: make deploy"
        )
    return answer, partial(modal.Cls.from_name, resources.SERVICE_APP)


def _check_model(found: dict[str, Any], request: Request, config: Config) -> None:
    """Raise RecipeError unless the service has the model as the config of the run has it."""
    ours = load_config(resources.REPOSITORY / request.config)
    if (found["model"], found["engine"]) != (msgspec.to_builtins(ours.model), config.engine.kind):
        raise RecipeError(
            f"service: expected a run with {found['model']['name']} as its config had it when it was deployed, found "
            f"one with {ours.model.name} or other settings of it; deploy again"
        )


def _parameters(request: Request, config: Config) -> dict[str, str]:
    """Return the parameters of the class: the config, and the dtype of an output that began with another GPU."""
    dtype = load_config(resources.REPOSITORY / request.config).model.dtype
    if dtype == "auto" and config.model.dtype != modal_device(config.modal.gpu).dtype:
        return {"config": request.config, "dtype": config.model.dtype}
    return {"config": request.config}
