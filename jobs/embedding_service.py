"""The embedding service: one GPU container that wakes from a snapshot with the model loaded.

modal deploy jobs/embedding_service.py
modal run jobs/embedding_service.py::download_weights
"""

import os
import sys
import threading
from typing import Any

import modal

from jobs import resources
from jobs.resources import HOURS, MINUTES
from pipeline.config import load_config
from pipeline.errors import EngineError
from pipeline.key import read_key
from pipeline.server import Server
from pipeline.service import Service
from pipeline.weights import check_revision, locate

app = modal.App(resources.SERVICE_APP)
HTTP_PORT = 8000


@app.cls(
    image=resources.service_image,
    gpu=resources.RENTED.gpu or None,
    volumes=resources.service_volumes,
    max_containers=1,
    scaledown_window=5 * MINUTES,
    timeout=1 * HOURS,
    startup_timeout=30 * MINUTES,
    retries=modal.Retries(max_retries=2, initial_delay=1.0),
    enable_memory_snapshot=True,
    experimental_options={"enable_gpu_snapshot": bool(resources.RENTED.gpu)},
)
@modal.concurrent(max_inputs=2)
class VLLMEmbeddingSnapshot:
    """The engine of a config: one chunk in it while the next is read, tokenised or written."""

    config: str = modal.parameter(default=resources.CONFIG)

    @modal.enter(snap=True)
    def load(self) -> None:
        """Load the model, embed once, and let the engine sleep: this is what the snapshot holds."""
        self.service = Service(
            load_config(resources.REPOSITORY / self.config),
            resources.OUTPUT,
            commit=resources.output.commit,
            refresh_corpus=resources.corpus.reload,
        )
        self.service.sleep()

    @modal.enter(snap=False)
    def wake(self) -> None:
        """Wake the engine after a restore."""
        self.service.wake()

    @modal.method()
    def embed(self, sentences: list[str]) -> list[list[float]]:
        """Return one vector for each text."""
        return self.service.embed(sentences)

    @modal.method()
    def embed_with_metadata(self, sentences: list[str]) -> list[dict[str, Any]]:
        """Return text, embedding and dimension for each text."""
        return self.service.embed_with_metadata(sentences)

    @modal.method()
    def embed_chunk(self, chunk: dict[str, Any], job: dict[str, Any], output: str) -> dict[str, Any]:
        """Embed a chunk into an output and return its receipt."""
        return self.service.embed_chunk(chunk, job, output)

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
    config = load_config(resources.REPOSITORY / resources.CONFIG)
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
    image=resources.driver_image,
    volumes={str(resources.WEIGHTS): resources.weights},
    secrets=resources.hub_token,
    timeout=4 * HOURS,
    cpu=4,
)
def download_weights(config: str = resources.CONFIG) -> str:
    """Fill the weights volume without renting a GPU; return the folder of the revision that was found."""
    model = load_config(resources.REPOSITORY / config).model
    folder = locate(model)
    check_revision(model, folder)
    resources.weights.commit()
    print(f"{model.name} {model.revision}: {folder}")
    return str(folder)
