"""One container's life in the plane: what it is started with, what its volumes hold, and how it ends."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from modal_proto import api_pb2 as api

from . import namespace
from .faults import PreemptAtInput
from .namespace import Bind, Program
from .objects import Function
from .seen import CommitSeen, ContainerSeen
from .state import Input, Worker, new_id
from .volumes import Copy

if TYPE_CHECKING:
    from .plane import Plane

INSIDE = "/__modal"
SAMPLE_S = 0.25
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LINE_BYTES = 16 << 20


class Container:
    def __init__(self, plane: "Plane", function: Function, worker: Worker, seen: ContainerSeen) -> None:
        self.plane, self.function, self.worker, self.seen = plane, function, worker, seen
        self.task_id = worker.task_id
        self.folder = plane.root / "containers" / self.task_id
        self.shared = self.folder / "shared"
        self.copies: dict[str, Copy] = {}
        self.last_call_id = ""
        self.killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._sampled_s = 0.0
        self._committed_s = time.time()

    async def run(self) -> None:
        """Start the container, follow it to its end, and tidy up."""
        self.shared.mkdir(parents=True)
        listener = self._listen()
        server = await self.plane.serve(listener, self)
        try:
            binds = [Bind(source=self.shared, target=INSIDE), *await asyncio.to_thread(self._mount_volumes)]
            (self.shared / "arguments").write_bytes(self._arguments().SerializeToString())
            plan = namespace.prepare(self.folder, self._program(binds))
            process = await asyncio.create_subprocess_exec(
                *plan,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                limit=LINE_BYTES,
            )
            self._process, self.seen.pid = process, process.pid
            if self.worker.leaving:
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
            await asyncio.to_thread(shutil.rmtree, self.folder)

    def _listen(self) -> socket.socket:
        """Bind the container's own socket through a descriptor: paths of Unix sockets have to be short."""
        listener = socket.socket(socket.AF_UNIX)
        folder = os.open(self.shared, os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/plane.sock")
        os.close(folder)
        return listener

    def _mount_volumes(self) -> list[Bind]:
        binds = []
        for mount in self.function.definition.volume_mounts:
            volume = self.plane.objects.volumes[mount.volume_id]
            path = self.folder / "volumes" / volume.id
            copy = Copy(volume=volume, path=path, read_only=mount.read_only)
            copy.catch_up()
            self.copies[volume.id] = copy
            shown = path / mount.sub_path.strip("/")
            shown.mkdir(parents=True, exist_ok=True)
            binds.append(Bind(source=shown, target=mount.mount_path, read_only=mount.read_only))
        return binds

    @property
    def _snapshots(self) -> bool:
        return self.function.app.deployed and self.function.definition.checkpointing_enabled

    def _arguments(self) -> api.ContainerArguments:
        arguments = api.ContainerArguments(
            task_id=self.task_id,
            function_id=self.function.id,
            app_id=self.function.app.id,
            function_def=self.function.definition,
            serialized_params=self.function.params,
            environment_name="main",
            app_layout=self.plane.objects.layout(self.function.app),
        )
        if self._snapshots:
            arguments.function_def.is_checkpointing_function = True
            arguments.checkpoint_id = new_id("ch")
        return arguments

    def _program(self, binds: list[Bind]) -> Program:
        definition, objects = self.function.definition, self.plane.objects
        image = objects.images[definition.image_id]
        env = {
            "PATH": f"{os.path.dirname(sys.executable)}:{SYSTEM_PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.plane.settings.container_env,
            **image.env,
        }
        for secret_id in definition.secret_ids:
            env |= objects.secrets[secret_id]
        env |= {
            "PYTHONPATH": ":".join(["/root", *filter(None, [env.get("PYTHONPATH")])]),
            "MODAL_IS_REMOTE": "1",
            "MODAL_TASK_ID": self.task_id,
            "MODAL_IMAGE_ID": definition.image_id,
            "MODAL_SERVER_URL": f"unix://{INSIDE}/plane.sock",
            "MODAL_CONTAINER_ARGUMENTS_PATH": f"{INSIDE}/arguments",
        }
        if self._snapshots:
            env |= {"MODAL_ENABLE_SNAP_RESTORE": "1", "MODAL_RESTORE_STATE_PATH": f"{INSIDE}/restore.json"}
        files = dict(image.files)
        for mount_id in definition.mount_ids:
            files |= objects.mounts[mount_id]
        argv = [sys.executable, "-m", "modal._container_entrypoint"]
        return Program(argv=argv, env=env, files=files, binds=binds)

    async def _follow(
        self, stream: asyncio.StreamReader | None, descriptor: "api.FileDescriptor.ValueType"
    ) -> None:
        """Append what the container prints to its app's log, line by line."""
        if stream is None:
            return
        app = self.function.app
        async for line in stream:
            calls = {work.call.id for work in self.worker.running.values()} or {self.last_call_id}
            log = api.TaskLogs(
                data=line.decode(errors="replace"),
                timestamp=time.time(),
                file_descriptor=descriptor,
                function_call_id=calls.pop() if len(calls) == 1 else "",
            )
            entry_id = str(len(app.logs) + 1)
            app.logs.append(
                api.TaskLogsBatch(
                    task_id=self.task_id, function_id=self.function.id, entry_id=entry_id, items=[log]
                )
            )
            app.logged.notify()

    # --- while it runs ---

    def became_ready(self) -> None:
        if not self.worker.ready:
            self.worker.ready = True
            self.worker.idle_since_s = self.seen.ready_s = time.time()

    def restore(self) -> None:
        """Answer a checkpoint: nothing is frozen, the container goes on as if it had just been restored."""
        state = {"task_id": self.task_id, "function_id": self.function.id}
        fresh = self.shared / "restore.json.new"
        fresh.write_text(json.dumps(state))
        fresh.rename(self.shared / "restore.json")

    def open_path(self, copy: Copy) -> str | None:
        """Return a path of the volume that the container's processes hold open, if there is one."""
        return copy.holds(namespace.open_inodes(self.seen.pid))

    async def commit(self, copy: Copy) -> None:
        async with self.plane.volume_lock:
            changed, removed = await asyncio.to_thread(copy.commit)
        if changed or removed:
            name = copy.volume.name
            commit = CommitSeen(volume=name, function=self.seen.function, changed=changed, removed=removed)
            self.plane.seen.commits.append(commit)

    def sample(self) -> None:
        """Measure memory, and publish half-done work if background commits are on, each at its own pace."""
        now = time.time()
        if self.seen.pid and now - self._sampled_s > SAMPLE_S:
            self._sampled_s = now
            self.seen.peak_rss_bytes = max(self.seen.peak_rss_bytes, namespace.peak_rss_bytes(self.seen.pid))
        every_s = self.plane.settings.background_commit_s
        if every_s is not None and now - self._committed_s > every_s and self.worker.ready:
            self._committed_s = now
            for copy in self.copies.values():
                self.plane.background(self.commit(copy))

    # --- its end ---

    def kill(self, why: str, unless_done: Input | None = None) -> None:
        """SIGKILL the container, unless it no longer runs the input that the kill was meant for."""
        if unless_done is not None and unless_done.id not in self.worker.running:
            return
        if self.seen.ended_s is None:
            self.seen.why = why
        self._sampled_s = 0.0
        self.sample()
        self.killed = self.worker.leaving = True
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def interrupt(self, signum: int, grace_s: float, why: str) -> None:
        """Ask the program to end by a signal, and kill the container when the grace is over."""
        self.worker.leaving = self.worker.blameless = True
        self.seen.why = why
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                namespace.interrupt(self._process.pid, signum)
            self.plane.later(grace_s, lambda: self.kill(why))

    def preempt(self, rule: PreemptAtInput, unless_done: Input) -> None:
        if unless_done.id in self.worker.running:
            self.interrupt(rule.signal, rule.grace_s, "preempted")

    def end(self, grace_s: float) -> None:
        """Stop for good: an idle container exits, one at work is interrupted, a starting one is killed."""
        if not self.worker.ready:
            self.kill("stopped")
        elif self.worker.running:
            self.interrupt(signal.SIGINT, grace_s, "stopped")
        else:
            self.plane.leave(self, "stopped")
            self.plane.later(grace_s, lambda: self.kill("stopped"))
