"""A control plane on 127.0.0.1 with which the unmodified Modal client runs real apps, without an account.

with Loopback(tmp_path, faults=[KillAtInput(on="Embedder", nth=3)]) as plane:
    done = plane.modal("run", "jobs/embed_corpus.py", cwd=repository)
    assert plane.seen.inputs_finished["Embedder.embed"] == 12
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from modal_proto import api_pb2 as api

from .faults import DelayAnswer, DropResult, FailCommit, Faults, KillAtInput, PreemptAtInput, Rule
from .namespace import why_unavailable
from .plane import Plane
from .scheduler import STATUS
from .seen import CommitSeen, ContainerSeen, PayloadSeen, Seen
from .settings import Settings

__all__ = [
    "CallResult",
    "CommitSeen",
    "ContainerSeen",
    "DelayAnswer",
    "DropResult",
    "FailCommit",
    "KillAtInput",
    "Loopback",
    "PayloadSeen",
    "PreemptAtInput",
    "Rule",
    "Schedule",
    "Seen",
    "Settings",
    "why_unavailable",
]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """How a call ended: `status` is SUCCESS, FAILURE, TERMINATED or TIMEOUT."""

    status: str
    exception: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule of a deployed function; `cron` is empty for a period."""

    app: str
    function: str
    cron: str
    timezone: str


class Loopback:
    """A control plane in a thread of this process; its files lie under `root`, its knobs are `Settings`."""

    def __init__(self, root: Path, *, faults: Iterable[Rule] = (), settings: Settings | None = None) -> None:
        self.root = root
        self.faults = Faults(faults)
        self.seen = Seen()
        self._settings = settings or Settings()
        self._thread = threading.Thread(target=self._serve, name="modal-loopback", daemon=True)
        self._up = threading.Event()
        self._started = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        if not self._started:
            raise RuntimeError("the control plane could not start; its traceback is on stderr")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join()

    def _serve(self) -> None:
        try:
            asyncio.run(self._live())
        finally:
            self._up.set()

    async def _live(self) -> None:
        self._loop, self._down = asyncio.get_running_loop(), asyncio.Event()
        self._plane = Plane(self.root, self._settings, self.faults, self.seen)
        await self._plane.start()
        self._started = True
        self._up.set()
        await self._down.wait()
        await self._plane.stop()

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result()

    @property
    def variables(self) -> dict[str, str]:
        """What the Modal client needs in its environment to talk to this plane and to nothing else."""
        return {
            "MODAL_SERVER_URL": self._plane.url,
            "MODAL_TOKEN_ID": "ak-loopback",
            "MODAL_TOKEN_SECRET": "as-loopback",
            "MODAL_CONFIG_PATH": str(self.root / "no-such-config.toml"),
            "MODAL_DISABLE_API_PROXY": "1",
            "NO_PROXY": "127.0.0.1",
        }

    @property
    def env(self) -> dict[str, str]:
        """This process's environment with the plane's variables in place of any other Modal settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        return kept | self.variables

    def python(
        self, *arguments: str, cwd: Path, timeout_s: float = 120, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run this Python against the plane and return its text output, whatever its exit status."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=self.env | dict(env or {}),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def modal(
        self, *arguments: str, cwd: Path, timeout_s: float = 120, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the `modal` command against the plane."""
        return self.python("-m", "modal", *arguments, cwd=cwd, timeout_s=timeout_s, env=env)

    def schedules(self) -> list[Schedule]:
        return self._ask(self._schedules())

    async def _schedules(self) -> list[Schedule]:
        objects = self._plane.objects
        functions = [
            objects.functions[function_id]
            for app in objects.apps.values()
            if app.deployed
            for function_id in app.function_ids.values()
        ]
        return [
            Schedule(
                app=function.app.name,
                function=function.name,
                cron=function.definition.schedule.cron.cron_string,
                timezone=function.definition.schedule.cron.timezone,
            )
            for function in functions
            if function.definition.HasField("schedule")
        ]

    def tick(self, app: str, function: str) -> str:
        """Run a scheduled function now, as its schedule would, and return the call's id."""
        if not any((s.app, s.function) == (app, function) for s in self.schedules()):
            raise LookupError(f"no deployed app {app!r} has a function {function!r} with a schedule")
        return self._ask(self._tick(app, function))

    async def _tick(self, app: str, function: str) -> str:
        plane = self._plane
        deployed = plane.objects.deployed(app)
        function_id = deployed.function_ids[function] if deployed else ""
        call = plane.scheduler.open_call(plane.pools[function_id], mapped=False, spawned=True)
        plane.scheduler.put(call, 0, api.FunctionInput(data_format=api.DATA_FORMAT_PICKLE))
        plane.wake()
        return call.id

    def wait(self, call_id: str, timeout_s: float = 60) -> CallResult:
        """Wait for a call of one input to end."""
        deadline = time.monotonic() + timeout_s
        call = self._plane.scheduler.calls[call_id]
        while not call.outputs:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{call_id} did not end within {timeout_s} s")
            time.sleep(0.02)
        result = call.outputs[-1][1].result
        status = STATUS.GenericStatus.Name(result.status).removeprefix("GENERIC_STATUS_")
        return CallResult(status=status, exception=result.exception)

    def committed(self, volume: str) -> dict[str, Path]:
        """Return the files of a volume's last commit by path; the files are not to be changed."""
        found = self._plane.objects.volume_named(volume)
        if found is None:
            raise LookupError(f"no volume is named {volume!r}")
        return {path: node.content for path, node in found.head.items() if node.content is not None}

    def seed(self, volume: str, folder: Path, version: int = 1) -> None:
        """Add the files below a folder to a volume, creating it if need be."""
        self._ask(self._seed(volume, folder, version))

    async def _seed(self, name: str, folder: Path, version: int) -> None:
        objects = self._plane.objects
        volume = objects.volume_named(name) or objects.new_volume(name, version)
        files = [path for path in folder.rglob("*") if path.is_file()]
        nodes = {str(path.relative_to(folder)): volume.add_file(path) for path in files}
        async with self._plane.volume_lock:
            volume.publish(nodes, set())
