"""The control plane itself: owns every object, and starts and ends containers."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from grpclib.config import Configuration
from grpclib.server import Server
from modal_proto import api_pb2 as api

from .blobs import Blobs
from .container import Container
from .faults import Faults
from .objects import App, Function, Registry
from .rpc_apps import AppRpcs
from .rpc_calls import CallRpcs
from .rpc_containers import ContainerRpcs
from .rpc_functions import FunctionRpcs
from .rpc_objects import ObjectRpcs
from .rpc_volumes import VolumeRpcs
from .scheduler import STATUS, Scheduler, failure
from .seen import ContainerSeen, PayloadSeen, Seen
from .settings import Settings
from .state import Input, Limits, Pool, Worker, new_id
from .watch import watch

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.05, 5.0  # before a pool whose containers crash gets another
WINDOW_BYTES = 64 << 20


class Service(AppRpcs, FunctionRpcs, ObjectRpcs, CallRpcs, ContainerRpcs, VolumeRpcs):
    """Everything that one listener answers."""


class Plane:
    """One test control plane; every method runs in its event loop."""

    def __init__(self, root: Path, settings: Settings, faults: Faults, seen: Seen) -> None:
        self.root, self.settings, self.faults, self.seen = root, settings, faults, seen
        self.objects = Registry(root, settings.secrets)
        self.blobs = Blobs(root / "http")
        self.volume_lock = asyncio.Lock()
        self.pools: dict[str, Pool] = {}
        self.containers: dict[str, Container] = {}
        self.scheduler = Scheduler(time.time, self.later)
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[Server] = []

    # --- life ---

    async def start(self) -> None:
        await self.blobs.start()
        listener = socket.create_server(("127.0.0.1", 0))
        self._servers.append(await self.serve(listener, None))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.background(watch(self))

    async def stop(self) -> None:
        for app in self.objects.apps.values():
            app.state = api.APP_STATE_STOPPED
        for container in list(self.containers.values()):
            container.kill("plane stopped")
        while self.containers:
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        for server in self._servers:
            server.close()
        await self.blobs.stop()

    async def serve(self, listener: socket.socket, container: Container | None) -> Server:
        config = Configuration(
            http2_connection_window_size=WINDOW_BYTES, http2_stream_window_size=WINDOW_BYTES
        )
        server = Server([Service(self, container)], config=config)
        await server.start(sock=listener)
        return server

    def background(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.seen.errors.append(f"background task: {task.exception()!r}")

    def later(self, delay_s: float, then: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_s, then)

    # --- apps and functions ---

    def page(self, app: App) -> str:
        return f"{self.url}/apps/{app.id}"

    def define(self, function: Function, definition: api.Function) -> None:
        """Give a function its definition; a changed one retires the containers of the old."""
        mounts = sorted(definition.mount_ids)  # the client sends them in no particular order
        del definition.mount_ids[:]
        definition.mount_ids.extend(mounts)
        pool = self.pools.get(function.id)
        if pool is not None and function.definition == definition:
            return
        function.definition, function.definition_id = definition, new_id("de")
        function.variants.clear()
        limits = self._limits(definition)
        if pool is None:
            self.pools[function.id] = Pool(id=function.id, name=function.name, limits=limits)
        else:
            pool.limits = limits
            for worker in list(pool.workers.values()):
                self.leave(self.containers[worker.task_id], "redeployed")

    def _limits(self, d: api.Function) -> Limits:
        autoscaler = d.autoscaler_settings
        return Limits(
            max_containers=autoscaler.max_containers or self.settings.max_containers,
            min_containers=autoscaler.min_containers,
            scaledown_s=(autoscaler.scaledown_window or 60) * self.settings.scaledown_factor,
            slots=d.target_concurrent_inputs or d.max_concurrent_inputs or 1,
            timeout_s=d.timeout_secs or 300,
            startup_timeout_s=d.startup_timeout_secs or d.timeout_secs or 300,
            retry=d.retry_policy,
        )

    def rescale(self, function_id: str, change: api.AutoscalerSettings) -> api.AutoscalerSettings:
        """Change what an autoscaler update names and return the limits now in force."""
        pool, factor = self.pools[function_id], self.settings.scaledown_factor
        if change.HasField("max_containers"):
            most = change.max_containers or self.settings.max_containers
            pool.limits = replace(pool.limits, max_containers=most)
        if change.HasField("min_containers"):
            pool.limits = replace(pool.limits, min_containers=change.min_containers)
        if change.HasField("scaledown_window"):
            pool.limits = replace(pool.limits, scaledown_s=change.scaledown_window * factor)
        self.wake()
        return api.AutoscalerSettings(
            min_containers=pool.limits.min_containers,
            max_containers=pool.limits.max_containers,
            scaledown_window=round(pool.limits.scaledown_s / factor),
        )

    async def client_left(self, app: App) -> None:
        if app.state == api.APP_STATE_DETACHED:
            app.state = api.APP_STATE_DETACHED_DISCONNECTED
        elif not app.deployed:
            await self.stop_app(app)

    async def stop_app(self, app: App) -> None:
        """End an app: what waits is terminated, containers get a short grace for their exit hooks."""
        app.state, app.stopped_s = api.APP_STATE_STOPPED, time.time()
        for pool in self.pools_of(app):
            for call in [call for call in self.scheduler.calls.values() if call.pool is pool]:
                self.scheduler.cancel(call, "the app was stopped")
        for container in self.containers_of(app):
            container.end(self.settings.stop_grace_s)
        app.logged.notify()

    def pools_of(self, app: App) -> list[Pool]:
        return [pool for pool in self.pools.values() if self.objects.functions[pool.id].app is app]

    def containers_of(self, app: App) -> list[Container]:
        return [container for container in self.containers.values() if container.function.app is app]

    def saw_payload(
        self, work: Input, direction: Literal["input", "output"], inline: bytes, blob_id: str
    ) -> None:
        self.seen.payloads.append(
            PayloadSeen(
                function=work.name,
                call_id=work.call.id,
                direction=direction,
                size_bytes=self.blobs.sizes[blob_id] if blob_id else len(inline),
                blob=bool(blob_id),
                mapped=work.call.mapped,
            )
        )

    # --- containers ---

    def wake(self) -> None:
        """Start the containers that the pools want now."""
        now = time.time()
        for pool in self.pools.values():
            function = self.objects.functions[pool.id]
            if not (function.app.live and function.app.version):
                continue
            for _ in range(pool.wanted(now)):
                self._start_container(function, pool)

    def _start_container(self, function: Function, pool: Pool) -> None:
        now = time.time()
        worker = Worker(task_id=new_id("ta"), pool=pool, started_s=now)
        pool.workers[worker.task_id] = worker
        seen = ContainerSeen(
            task_id=worker.task_id,
            app=function.app.name,
            function=pool.name,
            function_id=function.id,
            pid=0,
            started_s=now,
        )
        self.seen.containers.append(seen)
        self.seen.max_containers[pool.name] = max(self.seen.max_containers[pool.name], len(pool.workers))
        container = Container(self, function, worker, seen)
        self.containers[worker.task_id] = container
        self.background(container.run())

    def ended(self, container: Container) -> None:
        """Take note of a container's death: its inputs go back to the queue, or fail if they keep killing."""
        worker, pool = container.worker, container.worker.pool
        deployed, settings = container.function.app.deployed, self.settings
        most = settings.max_deaths_deployed if deployed else settings.max_deaths_ephemeral
        del self.containers[worker.task_id]
        if not worker.leaving:
            container.seen.why = "crashed"
            pool.crashes += 1
            pool.not_before_s = time.time() + min(FIRST_BACKOFF_S * 2**pool.crashes, MAX_BACKOFF_S)
        if not worker.ready and most is not None and pool.crashes >= most:
            message = f"{pool.name}: containers exit with {container.seen.exit_code} while starting"
            self.scheduler.fail_queued(pool, failure(STATUS.GENERIC_STATUS_FAILURE, message))
        self.scheduler.release(worker, most)
        container.function.app.logged.notify()
        self.wake()

    def leave(self, container: Container, why: str) -> None:
        """Let a container finish what it runs and exit by itself, running its exit hooks."""
        if not container.worker.leaving:
            container.worker.leaving = True
            container.seen.why = why
            container.worker.pool.changed.notify()
