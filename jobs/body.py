"""What a container of the service does, and what it asks Modal for; a class of an app adds its parameters."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import modal
import modal.experimental

from jobs import here, resources
from jobs.containers import Announced, process_started_at
from jobs.resources import HOURS
from jobs.volume import ModalVolume
from pipeline.config import Config, load_config
from pipeline.errors import BrokenEngineError
from pipeline.model import modal_device, settle_dtype
from pipeline.worker import Service, Start

T = TypeVar("T")


def settled(name: str, dtype: str = "") -> Config:
    """Load a config for a container with its `modal.gpu`, where "auto" becomes `dtype` if that is given."""
    config = load_config(resources.REPOSITORY / name, [f"model.dtype={dtype}"] if dtype else ())
    return settle_dtype(config, modal_device(config.modal.gpu))


class ServiceBody:
    """What the classes of the service share: their calls, and how their containers start and end.

    No hook raises: Modal starts a deployed container that fails to start again for ever, and lets its callers wait. The
    error is kept, and every call raises it. A call that is cancelled ends alone, because all are `async`: its thread
    finishes by itself. Of a concurrent method that is not, Modal ends the whole container.
    """

    config: str
    dtype: str
    start: Start
    announced: Announced
    loaded_as: str  # the container in which the engine was loaded

    @modal.enter(snap=False)
    def wake(self) -> None:
        """Start to load, where that is yet to be done; else wake the engine, and see that it embeds as before.

        What failed before is tried anew here, after the restore of a snapshot that has no engine.
        """
        restored = getattr(self, "loaded_as", here.task()) != here.task()
        self._begin(time.time() if restored else process_started_at())
        if hasattr(self, "start"):
            self.start.wake()
            self.start.move_to(here.made_by())
        else:
            self._load(sleep=False)
        self.announced.watch(lambda: self.start.n_under_way)
        threading.Thread(target=self._announce, name="announce", daemon=True).start()

    @modal.method()
    async def embed(self, sentences: list[str]) -> list[list[float]]:
        """Return one vector for each text."""
        return await self._on_thread(lambda: self.start.service.embed(sentences))

    @modal.method()
    async def embed_with_metadata(self, sentences: list[str]) -> list[dict[str, Any]]:
        """Return text, embedding and dimension for each text."""
        return await self._on_thread(lambda: self.start.service.embed_with_metadata(sentences))

    @modal.method()
    async def embed_chunk(
        self, chunk: dict[str, Any], deaths: int = 0, *, job: dict[str, Any], output: str
    ) -> dict[str, Any]:
        """Embed a chunk, which died so often before, into an output and return its receipt."""
        return await self._on_thread(lambda: self.start.service.embed_chunk(chunk, job, output, deaths), output)

    @modal.exit()
    def close(self) -> None:
        """Let the call in progress finish."""
        self.start.close()
        self.announced.end()

    def _begin(self, started_at: float) -> None:
        self.announced = Announced(here.record(self.config, started_at))

    def _load(self, *, sleep: bool) -> None:
        self.loaded_as = here.task()
        self.start = Start(self._service)
        self.start.load(sleep=sleep)

    def _service(self) -> Service:
        config = settled(self.config, self.dtype)
        made_by = here.made_by()
        reload_corpus = resources.corpus.reload
        return Service(config, resources.OUTPUT, ModalVolume(), reload_corpus=reload_corpus, made_by=made_by)

    def _announce(self) -> None:
        """Say when the engine is ready, or why there is none."""
        try:
            self.announced.update(ready_at=self.start.service.wait())
        except Exception as error:  # noqa: BLE001  every call raises it too
            self.announced.update(error=str(error))

    async def _on_thread(self, work: Callable[[], T], output: str = "") -> T:
        """Do the work of a call; once the engine is broken, no other reaches this container, and Modal starts one."""

        def counted() -> T:
            with self.announced.working(output):
                return work()

        try:
            return await asyncio.to_thread(counted)
        except BrokenEngineError as error:
            await asyncio.to_thread(self.announced.update, error=str(error))
            await modal.experimental.stop_fetching_inputs.aio()
            raise


class SnapshotBody(ServiceBody):
    """The same for a class with `enable_memory_snapshot`."""

    @modal.enter(snap=resources.RENTED.snapshot)
    def load(self) -> None:
        """Load the model, embed once, and let the engine sleep: this is what a snapshot holds.

        Where none follows (`modal.snapshot`, or an app that is not deployed) `wake` begins to load, and that goes on
        while chunks come in.
        """
        if here.snapshot_follows():
            self._begin(process_started_at())
            self._load(sleep=True)
            self.announced.pause()  # a snapshot holds no connection


COMMON: dict[str, Any] = {
    "image": resources.service_image,
    "volumes": resources.service_volumes,
    "max_containers": 1,
    "scaledown_window": resources.SERVICE_IDLE_S,
    "timeout": 1 * HOURS,
    "startup_timeout": resources.STARTUP_TIMEOUT_S,
    "retries": modal.Retries(max_retries=1, initial_delay=1.0),  # each try of a start that fails is paid for
}
WITH_GPU: dict[str, Any] = COMMON | {
    "gpu": resources.RENTED.gpu or None,
    "cpu": resources.SERVICE_CPUS,
    "memory": resources.GPU_MEMORY_MIB,
}
WITH_SNAPSHOT: dict[str, Any] = WITH_GPU | {
    "enable_memory_snapshot": resources.RENTED.snapshot,
    "experimental_options": {"enable_gpu_snapshot": resources.RENTED.snapshot and bool(resources.RENTED.gpu)},
}
