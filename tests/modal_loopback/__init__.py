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
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from modal_proto import api_pb2 as api

from .calls import STATUS
from .functions import Function
from .knobs import DelayAnswer, DropResult, FailCommit, Faults, KillAtInput, PreemptAtInput, Rule, Settings
from .namespace import why_unavailable
from .plane import Plane
from .seen import Seen
from .volumes import Node

__all__ = ["DelayAnswer", "DropResult", "FailCommit", "KillAtInput", "Loopback", "PreemptAtInput", "Settings"]
__all__ += ["CallResult", "Schedule", "why_unavailable"]
T = TypeVar("T")


class CallResult(NamedTuple):
    """How a call ended: `status` is SUCCESS, FAILURE, TERMINATED or TIMEOUT."""

    status: str
    exception: str


class Schedule(NamedTuple):
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

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="modal-loopback", daemon=True)
        self._thread.start()
        self._plane = Plane(self.root, self._settings, self.faults, self.seen, self._loop)
        self._ask(self._plane.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._ask(self._plane.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._runner.close()

    def _ask(self, question: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result(timeout_s)

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

    def modal(self, *arguments: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the `modal` command against the plane, with the options of `python`."""
        return self.python("-m", "modal", *arguments, cwd=cwd, **options)

    def _scheduled(self) -> list[Function]:
        deployed = [app for app in list(self._plane.apps.values()) if app.deployed]
        return [f for app in deployed for f in app.functions.values() if f.definition.HasField("schedule")]

    def schedules(self) -> list[Schedule]:
        crons = [(function, function.definition.schedule.cron) for function in self._scheduled()]
        return [Schedule(f.app.name, f.name, cron.cron_string, cron.timezone) for f, cron in crons]

    def tick(self, app: str, function: str) -> str:
        """Run a scheduled function now, as its schedule would, and return the call's id."""
        for scheduled in self._scheduled():
            if (scheduled.app.name, scheduled.name) == (app, function):
                return self._ask(self._tick(scheduled))
        raise LookupError(f"no deployed app {app!r} has a function {function!r} with a schedule")

    async def _tick(self, function: Function) -> str:
        call = self._plane.open_call(function, spawned=True)
        call.put(0, api.FunctionInput(data_format=api.DATA_FORMAT_PICKLE))
        return call.id

    def wait(self, call_id: str, timeout_s: float = 60) -> CallResult:
        """Wait for a call of one input to end."""
        return self._ask(self._wait(call_id), timeout_s)

    async def _wait(self, call_id: str) -> CallResult:
        call = self._plane.calls[call_id]
        while not call.outputs:
            await call.changed.wait(None)
        result = call.outputs[-1][1].result
        status = STATUS.GenericStatus.Name(result.status).removeprefix("GENERIC_STATUS_")
        return CallResult(status=status, exception=result.exception)

    def cancel_orphans(self) -> int:
        """Cancel now the calls whose callers are gone, as happens by itself in `orphan_s`; return how many."""
        return self._ask(self._cancel_orphans())

    async def _cancel_orphans(self) -> int:
        orphans = [call for call in self._plane.calls.values() if call.is_orphan]
        for call in orphans:
            call.cancel("the caller went away")
        return len(orphans)

    def committed(self, volume: str) -> dict[str, Path]:
        """Return the files of a volume's last commit by path; the files are not to be changed."""
        found = self._plane.volume_named(volume)
        if found is None:
            raise LookupError(f"no volume is named {volume!r}")
        return {path: node.content for path, node in found.head.items() if node.content is not None}

    def volume_version(self, volume: str) -> int:
        """Return the version that a volume was made with."""
        found = self._plane.volume_named(volume)
        if found is None:
            raise LookupError(f"no volume is named {volume!r}")
        return found.version

    def logs(self) -> str:
        """Return what all containers have printed."""
        return "".join(batch.items[0].data for app in list(self._plane.apps.values()) for batch in app.logs)

    @property
    def n_unfinished(self) -> int:
        """How many inputs wait or run."""
        return sum(call.unfinished for call in list(self._plane.calls.values()))

    def bill_ahead(self, seconds: float) -> None:
        """Bill from now on as if so much time had passed: a bill is of full hours that are over."""
        self._plane.bill_ahead_s = seconds

    def seed(self, volume: str, folder: Path, version: int = 1) -> None:
        """Add the files and links below a folder to a volume, creating it if need be."""
        self._ask(self._seed(volume, folder, version))

    async def _seed(self, name: str, folder: Path, version: int) -> None:
        plane = self._plane
        volume = plane.volume_named(name) or plane.new_volume(plane.new_name("Volume", name), name, version)
        nodes = {
            str(path.relative_to(folder)): (
                Node(target=str(path.readlink())) if path.is_symlink() else volume.add_file(path, 0o644)
            )
            for path in folder.rglob("*")
            if path.is_symlink() or path.is_file()
        }
        async with plane.volume_lock:
            volume.publish(nodes, set())
