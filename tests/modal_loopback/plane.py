"""The control plane itself: owns every object, starts containers, and sees to what time brings."""

import asyncio
import socket
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Literal

from grpclib.config import Configuration
from grpclib.server import Server
from modal_proto import api_pb2 as api

from .blobs import Blobs
from .calls import STATUS, Call, Input, new_id
from .container import Container, Image
from .functions import App, Function
from .knobs import Faults, Settings
from .rpc_apps import AppRpcs, FunctionRpcs
from .rpc_calls import CallRpcs, ContainerRpcs
from .rpc_objects import ObjectRpcs
from .rpc_volumes import VolumeRpcs
from .rpc_workspace import WorkspaceRpcs
from .seen import CommitSeen, PayloadSeen, Seen
from .volumes import Volume

TICK_S = 0.02
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.05, 5.0  # before a function whose containers crash gets another
WINDOW_BYTES = 64 << 20
PREFIXES = {"Dict": "di", "Secret": "st", "Volume": "vo"}


class Service(AppRpcs, FunctionRpcs, ObjectRpcs, CallRpcs, ContainerRpcs, VolumeRpcs, WorkspaceRpcs):
    """Everything that one listener answers."""


class Plane:
    """One test control plane; every method runs in its event loop."""

    def __init__(
        self, root: Path, settings: Settings, faults: Faults, seen: Seen, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.root, self.settings, self.faults, self.seen, self.loop = root, settings, faults, seen, loop
        self.blobs = Blobs(root / "http")
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.calls: dict[str, Call] = {}
        self.inputs: dict[str, Input] = {}  # by the token that their caller has
        self.images: dict[str, Image] = {}
        self.mounts: dict[str, dict[str, Path]] = {}
        self.volumes: dict[str, Volume] = {}
        self.volume_lock = asyncio.Lock()
        self.dicts: dict[str, dict[bytes, bytes]] = {}
        self.names: dict[tuple[str, str], str] = {}
        self.secrets = {self.new_name("Secret", name): dict(env) for name, env in settings.secrets.items()}
        self.url = ""
        self.bill_ahead_s = 0.0  # that bills are made as if so much time had passed
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[Server] = []

    # --- life ---

    async def start(self) -> None:
        await self.blobs.start()
        listener = socket.create_server(("127.0.0.1", 0))
        self._servers.append(await self.serve(listener, None))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.background(self._watch())

    async def stop(self) -> None:
        for app in self.apps.values():
            app.life.stopped_at = time.time()
        while self._containers():
            for container in self._containers():
                container.kill("plane stopped")
            await asyncio.sleep(0.01)
        for server in self._servers:
            server.close()
        await self.blobs.stop()

    async def serve(self, listener: socket.socket, container: Container | None) -> Server:
        config = Configuration(http2_connection_window_size=WINDOW_BYTES, http2_stream_window_size=WINDOW_BYTES)
        server = Server([Service(self, container)], config=config)
        await server.start(sock=listener)
        return server

    def background(self, work: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.seen.errors.append(f"background task: {task.exception()!r}")

    # --- objects ---

    def new_name(self, kind: str, name: str) -> str:
        """Return a new id, which the name leads to from now on if there is one."""
        made = new_id(PREFIXES[kind])
        if name:
            self.names[kind, name] = made
        return made

    def new_volume(self, volume_id: str, name: str, version: int) -> Volume:
        store = self.blobs.root / "volume" / volume_id
        store.mkdir(parents=True)
        most = self.settings.max_files_in_folder if version == 2 else self.settings.max_files
        volume = Volume(id=volume_id, name=name, version=version, created_s=time.time(), store=store, max_files=most)
        self.volumes[volume_id] = volume
        return volume

    def volume_named(self, name: str) -> Volume | None:
        return self.volumes.get(self.names.get(("Volume", name), ""))

    def new_function(self, app: App, definition: api.Function) -> Function:
        function = Function(id=new_id("fu"), app=app, definition=definition)
        self.functions[function.id] = function
        return function

    def define(self, function: Function, definition: api.Function) -> None:
        """Give a function its definition; a changed one retires the containers of the old."""
        definition.mount_ids.sort()  # the client sends them in no particular order
        if function.definition_id and function.definition == definition:
            return
        function.definition, function.definition_id = definition, new_id("de")
        function.variants.clear()
        function.autoscaler.Clear()
        self.scale(function, definition.autoscaler_settings)
        for container in function.containers:
            container.leave("redeployed")

    def scale(self, function: Function, change: api.AutoscalerSettings) -> None:
        limits = function.autoscaler
        limits.MergeFrom(change)
        limits.max_containers = limits.max_containers or self.settings.max_containers
        limits.scaledown_window = limits.scaledown_window or 60

    def open_call(self, function: Function, *, spawned: bool) -> Call:
        call = Call(id=new_id("fc"), function=function, spawned=spawned, last_poll_s=time.time())
        self.calls[call.id] = call
        return call

    def saw_payload(self, work: Input, direction: Literal["input", "output"], inline: bytes, blob_id: str) -> None:
        size = self.blobs.path("blob", blob_id).stat().st_size if blob_id else len(inline)
        seen = PayloadSeen(function=work.name, direction=direction, size_bytes=size, blob=bool(blob_id))
        self.seen.payloads.append(seen)

    def saw_commit(self, volume: Volume, function: str, changed: Iterable[str], removed: Iterable[str]) -> None:
        seen = CommitSeen(volume=volume.name, function=function, changed=tuple(changed), removed=tuple(removed))
        self.seen.commits.append(seen)

    # --- the end of apps and containers ---

    def client_left(self, app: App) -> None:
        if app.life.app_state == api.APP_STATE_DETACHED:
            app.life.app_state = api.APP_STATE_DETACHED_DISCONNECTED
        elif not app.deployed:
            self.stop_app(app)

    def stop_app(self, app: App) -> None:
        """End an app: what waits is terminated, containers get a short grace for their exit hooks."""
        app.life.app_state, app.life.stopped_at = api.APP_STATE_STOPPED, time.time()
        for call in self._unfinished(app):
            call.cancel("the app was stopped")
        for container in self.containers_of(app):
            container.stop(self.settings.stop_grace_s)
        app.logged.notify()

    def _unfinished(self, app: App) -> list[Call]:
        return [call for call in self.calls.values() if call.unfinished and call.function.app is app]

    def _containers(self) -> list[Container]:
        return [container for function in self.functions.values() for container in function.containers]

    def containers_of(self, app: App) -> list[Container]:
        return [container for container in self._containers() if container.function.app is app]

    def ended(self, container: Container) -> None:
        """Take note of a container's death: its inputs go back to the queue, or fail if they keep killing."""
        function, settings = container.function, self.settings
        most = settings.max_deaths_deployed if function.app.deployed else settings.max_deaths_ephemeral
        function.containers.remove(container)
        if not container.leaving:
            container.seen.why = "crashed"
            function.crashes += 1
            function.not_before_s = time.time() + min(FIRST_BACKOFF_S * 2**function.crashes, MAX_BACKOFF_S)
        container.leaving = True  # one of its requests that is still open takes no input of those that go back
        if not container.ready and most is not None and function.crashes >= most:
            message = f"{function.name}: containers exit with {container.seen.exit_code} while starting"
            function.fail_queued(api.GenericResult(status=STATUS.GENERIC_STATUS_FAILURE, exception=message))
        for work in reversed(container.running.values()):
            work.deaths += not container.blameless
            if most is not None and work.deaths >= most:
                message = f"{work.name} lost {work.deaths} containers on this input"
                work.fail(STATUS.GENERIC_STATUS_TERMINATED, message)
            work.enqueue(first=True)
        function.app.logged.notify()

    # --- what happens because time passes ---

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = time.time()
            for container in self._containers():
                self._check_container(container, now)
            for app in list(self.apps.values()):
                self._check_app(app, now)
            for call in self.calls.values():
                if call.unfinished and call.alone_s > self.settings.orphan_s:
                    call.cancel("the caller went away")
            for function in self.functions.values():
                for _ in range(function.wanted(now)):
                    self._start_container(function)

    def _start_container(self, function: Function) -> None:
        container = Container(self, function)
        function.containers.append(container)
        self.seen.containers.append(container.seen)
        most = self.seen.max_containers
        most[function.name] = max(most[function.name], sum(not each.replaced for each in function.containers))
        self.background(container.run())

    def _check_container(self, container: Container, now: float) -> None:
        function = container.function
        container.sample()
        startup_s = function.definition.startup_timeout_secs or function.timeout_s
        if not container.ready and now - container.seen.started_s > startup_s:
            container.kill("startup timeout")
        for work in list(container.running.values()):
            if now - work.started_s > function.timeout_s and not work.done:
                message = f"{work.name} exceeded its timeout of {function.timeout_s} s"
                result = api.GenericResult(status=STATUS.GENERIC_STATUS_TIMEOUT, exception=message)
                container.finish(api.FunctionPutOutputsItem(input_id=work.id, result=result))
                container.blameless = True
                container.kill("timeout")
        limits, idle_s = function.autoscaler, 0 if container.running else now - container.idle_since_s
        surplus = len(function.containers) > limits.min_containers
        if container.ready and surplus and idle_s > limits.scaledown_window * self.settings.scaledown_factor:
            container.leave("idle")

    def _check_app(self, app: App, now: float) -> None:
        lost = now - app.heartbeat_s > self.settings.heartbeat_timeout_s
        if lost and app.life.app_state in (api.APP_STATE_EPHEMERAL, api.APP_STATE_DETACHED):
            self.client_left(app)
        elif app.life.app_state == api.APP_STATE_DETACHED_DISCONNECTED and not self._unfinished(app):
            self.stop_app(app)
