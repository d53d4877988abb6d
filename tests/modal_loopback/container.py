"""One container's life: what it starts with, what it runs, and how it ends."""

import asyncio
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modal_proto import api_pb2 as api

from . import namespace
from .calls import STATUS, Input, Signal, new_id
from .functions import Function
from .mounts import Mounts
from .namespace import Bind
from .seen import ContainerSeen

if TYPE_CHECKING:
    from .plane import Plane

INSIDE = "/__modal"
SAMPLE_S = 0.25
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LINE_BYTES = 16 << 20


class Image(NamedTuple):
    """What of an image matters to a container made of host folders."""

    env: dict[str, str]
    files: dict[str, Path]
    recipe: tuple[api.Image, ...]  # what was asked for, that of its base first


class Container:
    """A container with the inputs it runs; a `leaving` one takes no more, a `blameless` one's death is not theirs.

    A `replaced` one has a successor and is not counted any more.
    """

    def __init__(self, plane: "Plane", function: Function) -> None:
        self.plane, self.function = plane, function
        self.task_id = new_id("ta")
        self.seen = ContainerSeen(
            task_id=self.task_id,
            app=function.app.name,
            function=function.name,
            function_id=function.id,
            gpu=function.definition.resources.gpu_config.gpu_type,
            nonpreemptible=function.definition.scheduler_placement.nonpreemptible,
            started_s=time.time(),
        )
        self.running: dict[str, Input] = {}
        self.cancelled: list[str] = []
        self.changed = Signal()
        self.leaving = self.blameless = self.killed = self.replaced = False
        self.idle_since_s = time.time()
        self._sampled_s = 0.0
        self.last_call_id = ""
        self._folder = plane.root / "containers" / self.task_id
        self._shared = self._folder / "shared"
        self.mounts = Mounts(plane, self.seen, self._folder / "volumes")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def ready(self) -> bool:
        return self.seen.ready_s is not None

    async def run(self) -> None:
        """Start the container, follow it to its end, and tidy up."""
        self._shared.mkdir(parents=True)
        server = await self.plane.serve(self._listen(), self)
        try:
            binds = [Bind(self._shared, INSIDE), *await asyncio.to_thread(self.mounts.add, self.function.definition)]
            arguments = self.function.arguments(self.task_id, self.plane.volumes)
            (self._shared / "arguments").write_bytes(arguments.SerializeToString())
            (self._shared / "sitecustomize.py").write_text(self.mounts.startup_code(self.function.definition))
            argv = [sys.executable, "-m", "modal._container_entrypoint"]
            files = dict(self.plane.images[self.function.definition.image_id].files)
            for mount_id in self.function.definition.mount_ids:
                files |= self.plane.mounts[mount_id]
            process = await asyncio.create_subprocess_exec(
                *namespace.prepare(self._folder, argv, self._env(), files, binds),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                limit=LINE_BYTES,
            )
            self._process, self.seen.pid = process, process.pid
            if self.leaving:
                process.kill()
            await asyncio.gather(
                self._follow(process.stdout, api.FILE_DESCRIPTOR_STDOUT),
                self._follow(process.stderr, api.FILE_DESCRIPTOR_STDERR),
            )
            self.seen.exit_code = await process.wait()
        finally:
            server.close()
            self.seen.ended_s = time.time()
            self.plane.ended(self)
            async with self.plane.volume_lock:
                await asyncio.to_thread(shutil.rmtree, self._folder)

    def _listen(self) -> socket.socket:
        """Bind the container's own socket through a descriptor: paths of Unix sockets have to be short."""
        listener = socket.socket(socket.AF_UNIX)
        folder = os.open(self._shared, os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/plane.sock")
        os.close(folder)
        return listener

    def _env(self) -> dict[str, str]:
        definition = self.function.definition
        env = {
            "PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.plane.settings.container_env,
            **self.plane.images[definition.image_id].env,
        }
        for secret_id in definition.secret_ids:
            env |= self.plane.secrets[secret_id]
        env |= {
            "PYTHONPATH": ":".join(filter(None, ["/root", env.get("PYTHONPATH"), INSIDE])),
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": self.task_id,
            "MODAL_IMAGE_ID": definition.image_id,
            "MODAL_SERVER_URL": f"unix://{INSIDE}/plane.sock",
            "MODAL_CONTAINER_ARGUMENTS_PATH": f"{INSIDE}/arguments",
        }
        if self.function.snapshots:
            env |= {"MODAL_ENABLE_SNAP_RESTORE": "1", "MODAL_RESTORE_STATE_PATH": f"{INSIDE}/restore.json"}
        return env

    async def _follow(self, stream: Any, descriptor: "api.FileDescriptor.ValueType") -> None:
        """Append what the container prints to its app's log, line by line."""
        app, function_id = self.function.app, self.function.id
        async for line in stream:
            calls = {work.call.id for work in self.running.values()} or {self.last_call_id}
            log = api.TaskLogs(
                data=line.decode(errors="replace"),
                timestamp=time.time(),
                file_descriptor=descriptor,
                function_call_id=calls.pop() if len(calls) == 1 else "",
            )
            entry_id = str(len(app.logs) + 1)
            app.logs.append(
                api.TaskLogsBatch(task_id=self.task_id, function_id=function_id, entry_id=entry_id, items=[log])
            )
            app.logged.notify()

    # --- its inputs ---

    def finish(self, item: api.FunctionPutOutputsItem) -> None:
        """Accept an output unless its input was settled meanwhile; what a spawned call failed may run again."""
        work = self.running.pop(item.input_id, None)
        self.idle_since_s = time.time()
        if work is None or work.done:
            return
        self.function.crashes = 0
        retry = self.function.definition.retry_policy
        failed = item.result.status not in (STATUS.GENERIC_STATUS_SUCCESS, STATUS.GENERIC_STATUS_TERMINATED)
        if failed and work.call.spawned and work.retry_count < retry.retries:
            delay_ms = retry.initial_delay_ms * retry.backoff_coefficient**work.retry_count
            work.retry_count += 1
            self.plane.loop.call_later(min(delay_ms, retry.max_delay_ms) / 1000, work.enqueue)
        else:
            work.settle(item)

    # --- while it runs ---

    def restore(self) -> None:
        """Answer a checkpoint: nothing is frozen, the container goes on as if it had just been restored."""
        fresh = self._shared / "restore.json.new"
        fresh.write_text(json.dumps({"task_id": self.task_id, "function_id": self.function.id}))
        fresh.rename(self._shared / "restore.json")

    def sample(self) -> None:
        """Measure memory and commit in the background, each at its own pace."""
        now = time.time()
        if self.seen.pid and now - self._sampled_s > SAMPLE_S:
            self._sampled_s = now
            self.seen.peak_rss_bytes = max(self.seen.peak_rss_bytes, namespace.peak_rss_bytes(self.seen.pid))
        if self.ready:
            self.mounts.commit_in_background()

    # --- its end ---

    def strike(self, work: Input, blow: Callable[..., None], *arguments: Any) -> None:
        """Deal a blow that was meant to hit an input, if the container still runs it."""
        if work.id in self.running:
            blow(*arguments)

    def leave(self, why: str) -> None:
        """Let the container finish what it runs and exit by itself, running its exit hooks."""
        if not self.leaving:
            self.leaving, self.seen.why = True, why
            self.function.changed.notify()

    def kill(self, why: str) -> None:
        """SIGKILL the container."""
        if self.seen.ended_s is None:
            self.seen.why = why
        self._sampled_s = 0.0
        self.sample()
        self.killed = self.leaving = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def interrupt(self, why: str, grace_s: float) -> None:
        """SIGINT to the program, and SIGKILL when the grace is over."""
        self.leaving = self.blameless = True
        self.seen.why = why
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                namespace.interrupt(self._process.pid)
            self.plane.loop.call_later(grace_s, self.kill, why)

    def preempt(self, grace_s: float, overlap: bool) -> None:
        """Interrupt the container; with `overlap` another has its inputs at once, and what it says of them is void."""
        self.interrupt("preempted", grace_s)
        if overlap:
            self.replaced = True
            inputs, self.running = self.running, {}
            for work in reversed(inputs.values()):
                work.enqueue(first=True)

    def stop(self, grace_s: float) -> None:
        """End for good: an idle container exits, one at work is interrupted, a starting one is killed."""
        if not self.ready:
            self.kill("stopped")
        elif self.running:
            self.interrupt("stopped", grace_s)
        else:
            self.leave("stopped")
            self.plane.loop.call_later(grace_s, self.kill, "stopped")
