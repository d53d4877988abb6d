"""The embedding service: one GPU container that wakes from a snapshot with the model loaded.

modal deploy jobs/embedding_service.py
modal run jobs/embedding_service.py::download_weights
"""

from typing import Any

import modal
import msgspec

from jobs import resources
from jobs.body import COMMON, WITH_SNAPSHOT, ServiceBody, SnapshotBody, settled
from jobs.resources import HOURS, MINUTES
from jobs.serve import serve
from pipeline.config import load_config
from pipeline.model import locate, open_checkpoint, pin_and_check
from pipeline.shipped import shipped_configs

app = modal.App(resources.SERVICE_APP)
HTTP_PORT = 8000


@app.cls(**WITH_SNAPSHOT)
@modal.concurrent(max_inputs=2)
class VLLMEmbeddingSnapshot(SnapshotBody):
    """The engine of a config: one chunk in it while the next is read, tokenised or written."""

    config: str = modal.parameter(default=resources.CONFIG)
    dtype: str = modal.parameter(default="")  # of an output, where it is not what the config's "auto" becomes here


@app.cls(cpu=resources.SERVICE_CPUS, memory=resources.CPU_MEMORY_MIB, **COMMON)
@modal.concurrent(max_inputs=2)
class VLLMEmbeddingCPU(ServiceBody):
    """The same for a config without a GPU: options of a call can change the GPU of a class, and cannot take it away."""

    config: str = modal.parameter(default=resources.CONFIG)
    dtype: str = modal.parameter(default="")


@app.function(image=resources.driver_image, cpu=1)
def about(config: str = "") -> dict[str, Any]:
    """Say what is deployed: config, GPU, code and the model of each config; of a given one its model and engine."""
    models = {path: load_config(resources.REPOSITORY / path).model.name for path in _configs()}
    said: dict[str, Any] = {
        "config": resources.CONFIG,
        "gpu": resources.RENTED.gpu,
        "snapshot": resources.RENTED.snapshot,
        "code": resources.code_digest(),
        "models": models,
    }
    if config:
        found = load_config(resources.REPOSITORY / config)
        said |= {"model": msgspec.to_builtins(found.model), "engine": found.engine.kind}
    return said


def _configs() -> list[str]:
    """Return the paths of the configs below the repository, as they travel in an image."""
    return [path.relative_to(resources.REPOSITORY).as_posix() for path in shipped_configs().values()]


if resources.HTTP:  # one who reaches a server without its key would start a GPU, which then does not serve

    @app.function(
        image=resources.service_image,
        gpu=resources.RENTED.gpu or None,
        cpu=4,
        memory=16 * 1024,
        volumes=resources.service_volumes,
        secrets=resources.http_key,
        max_containers=1,
        scaledown_window=resources.SERVICE_IDLE_S,
        startup_timeout=resources.STARTUP_TIMEOUT_S,
    )
    @modal.concurrent(max_inputs=256)
    @modal.web_server(HTTP_PORT, startup_timeout=1 * MINUTES)
    def serve_http() -> None:
        """Serve OpenAI's `/v1/embeddings`, which takes the key of the secret vllm-embedding-api-key."""
        serve(lambda: pin_and_check(settled(resources.CONFIG)), HTTP_PORT)


@app.function(
    image=resources.download_image,
    volumes={str(resources.WEIGHTS): resources.weights},
    secrets=resources.hub_token,
    timeout=4 * HOURS,
    retries=modal.Retries(max_retries=3, initial_delay=1.0),  # files that are whole stay
    cpu=4,
)
def download_weights(config: str = resources.CONFIG) -> str:
    """Fill the weights volume without renting a GPU; return the folder of the revision that was found.

    Every file is held against the hub's hash, also one that was there before, and the checkpoint against the config.
    """
    pinned = pin_and_check(load_config(resources.REPOSITORY / config))
    model = pinned.model
    locate(model, verified=True)
    folder = open_checkpoint(pinned)
    resources.weights.commit()
    print(f"{model.name} {model.revision}: {folder}")
    return str(folder)
