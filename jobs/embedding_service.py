"""The embedding service: one GPU container that wakes from a snapshot with the model loaded.

modal deploy jobs/embedding_service.py
modal run jobs/embedding_service.py::download_weights
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import modal
import modal.experimental

from jobs import resources
from jobs.resources import HOURS, MINUTES
from jobs.volume import ModalVolume
from pipeline.config import Config, load_config
from pipeline.errors import BrokenEngineError, EngineError
from pipeline.model import modal_device, open_checkpoint, pin_and_check, settle_dtype, verify_weights
from pipeline.serve import Server, read_key
from pipeline.worker import Service

app = modal.App(resources.SERVICE_APP)
HTTP_PORT = 8000


def _settled(name: str, dtype: str = "") -> Config:
    """Load a config for a container with its `modal.gpu`, where "auto" becomes `dtype` if that is given."""
    config = load_config(resources.REPOSITORY / name, [f"model.dtype={dtype}"] if dtype else ())
    return settle_dtype(config, modal_device(config.modal.gpu))


@contextmanager
def leave_if_broken() -> Iterator[None]:
    """Let no other call reach this container once its engine is broken; Modal starts another."""
    try:
        yield
    except BrokenEngineError:
        modal.experimental.stop_fetching_inputs()
        raise


@app.cls(
    image=resources.service_image,
    gpu=resources.RENTED.gpu or None,
    volumes=resources.service_volumes,
    max_containers=1,
    scaledown_window=5 * MINUTES,
    timeout=1 * HOURS,
    startup_timeout=30 * MINUTES,
    retries=modal.Retries(max_retries=2, initial_delay=1.0),
    enable_memory_snapshot=resources.RENTED.snapshot,
    experimental_options={"enable_gpu_snapshot": resources.RENTED.snapshot and bool(resources.RENTED.gpu)},
)
@modal.concurrent(max_inputs=2)
class VLLMEmbeddingSnapshot:
    """The engine of a config: one chunk in it while the next is read, tokenised or written."""

    config: str = modal.parameter(default=resources.CONFIG)
    dtype: str = modal.parameter(default="")  # of an output, where it is not what the config's "auto" becomes here

    @modal.enter(snap=resources.RENTED.snapshot)
    def load(self) -> None:
        """Load the model, embed once, and let the engine sleep: this is what the snapshot holds.

        Without snapshots (`modal.snapshot`) the engine only starts to load, and goes on while chunks come in.
        """
        config = _settled(self.config, self.dtype)
        self.service = Service(config, resources.OUTPUT, ModalVolume(resources.corpus))
        if config.modal.snapshot:
            self.service.sleep()

    @modal.enter(snap=False)
    def wake(self) -> None:
        """Wake the engine after a restore, and see that it embeds as it did before."""
        self.service.wake()

    @modal.method()
    def embed(self, sentences: list[str]) -> list[list[float]]:
        """Return one vector for each text."""
        with leave_if_broken():
            return self.service.embed(sentences)

    @modal.method()
    def embed_with_metadata(self, sentences: list[str]) -> list[dict[str, Any]]:
        """Return text, embedding and dimension for each text."""
        with leave_if_broken():
            return self.service.embed_with_metadata(sentences)

    @modal.method()
    def embed_chunk(
        self, chunk: dict[str, Any], deaths: int = 0, *, job: dict[str, Any], output: str
    ) -> dict[str, Any]:
        """Embed a chunk, which died so often before, into an output and return its receipt."""
        with leave_if_broken():
            return self.service.embed_chunk(chunk, job, output, deaths)

    @modal.exit()
    def close(self) -> None:
        """Let the call in progress finish."""
        self.service.close()


@app.function(
    image=resources.service_image,
    gpu=resources.RENTED.gpu or None,
    volumes=resources.service_volumes,
    secrets=resources.http_key,
    max_containers=1,
    scaledown_window=5 * MINUTES,
    startup_timeout=30 * MINUTES,
)
@modal.concurrent(max_inputs=256)
@modal.web_server(HTTP_PORT, startup_timeout=1 * MINUTES, requires_proxy_auth=not resources.http_key)
def serve_http() -> None:
    """Serve OpenAI's `/v1/embeddings`, which takes the key of the secret vllm-embedding-api-key.

    Without the secret Modal itself turns everyone away, so that no stranger starts a GPU.
    """
    config = pin_and_check(_settled(resources.CONFIG))
    server = Server(config, host="0.0.0.0", port=HTTP_PORT, key=read_key(None, os.environ))
    server.wait_until_ready()
    threading.Thread(target=_die_with, args=[server], daemon=True).start()


def _die_with(server: Server) -> None:
    try:
        server.wait()
    except EngineError as error:
        print(error, file=sys.stderr, flush=True)
    os._exit(server.exit_code)


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
    folder = open_checkpoint(pinned)
    verify_weights(model)
    resources.weights.commit()
    print(f"{model.name} {model.revision}: {folder}")
    return str(folder)
