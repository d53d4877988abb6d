"""The pool of a run: which class of the service embeds its chunks, on which GPU, in how many containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import modal

from jobs import resources
from jobs.embedding_service import VLLMEmbeddingCPU, VLLMEmbeddingSnapshot, about
from jobs.request import Request
from pipeline.config import Config, load_config
from pipeline.errors import RecipeError, UsageError
from pipeline.model import modal_device

OWN_WINDOW_S = 15  # that containers of a run's own pool wait for a next chunk: longer than a chunk takes to arrive
DEPLOY = "deploy it with `modal deploy jobs/embedding_service.py` (`make deploy`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Containers of one kind, and how many there may be."""

    service: Any  # an instance of a class on Modal
    gpu: str  # "" = none
    n_containers: int
    in_words: str


def choose_pool(request: Request, config: Config) -> Pool:
    """Return the pool for a request; asks the service what it is and starts no engine.

    It is the service's own, which other callers share, unless the run wants another GPU, more containers or
    `--own-pool`. A config without a GPU runs on a class that never has one. Raises UsageError where the service has
    other code and RecipeError where it has another model than the run asks for.
    """
    found = _about(request)
    gpu, n_containers = request.gpu or config.modal.gpu, request.max_containers or config.modal.max_containers
    never_has_gpu = bool(found["gpu"]) and not gpu
    options: dict[str, Any] = {}
    if request.own_pool or n_containers != 1 or gpu not in ("", found["gpu"]):
        options = {"max_containers": n_containers}
        options |= {"gpu": gpu} if gpu else {}
        options |= {"scaledown_window": OWN_WINDOW_S} if request.own_pool else {}
    service = _class(request, "VLLMEmbeddingCPU" if never_has_gpu else resources.SERVICE_CLASS)
    service = service.with_options(**options) if options else service
    whose = "a pool of its own" if options else "the service's pool"
    many = "one container" if n_containers == 1 else f"up to {n_containers} containers"
    return Pool(
        service=service(**_parameters(request, config)),
        gpu=gpu,
        n_containers=n_containers,
        in_words=f"{whose}: {many}, {gpu or 'no GPU'}",
    )


def _about(request: Request) -> dict[str, Any]:
    """Return what the service says of itself, deployed or in this app."""
    if request.own_class:
        print(f"{resources.SERVICE_APP} is not deployed: this run uses its own class, which starts without a snapshot")
        return about.local(request.config)
    try:
        answer: dict[str, Any] = modal.Function.from_name(resources.SERVICE_APP, "about").remote(request.config)
    except modal.exception.NotFoundError:
        answer = {"code": "none"}
    if answer["code"] != resources.code_digest():
        raise UsageError(
            f"app {resources.SERVICE_APP}: expected the code of this run, {resources.code_digest()}, found "
            f"{answer['code']} deployed; deploy it again: make deploy"
        )
    return answer
