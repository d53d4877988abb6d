"""Runs in processes of their own that die by SIGKILL just before the n-th thing they do to the files of the output."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cli import main
from pipeline.dataset.store import Store
from pipeline.driver.fan_out import fan_out_here
from pipeline.driver.inventory import RunOptions
from pipeline.driver.run import run
from tests.support import local_config
from tests.support.forked import PROCESSES

ASKED = RunOptions(prune=True)  # rows may leave: what guards them has tests of its own
CHANGES = {"open": 0, "os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0}  # audit event -> its path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How such a run ended: whether it was killed, and what it did to the output before, in order."""

    killed: bool
    steps: tuple[str, ...]


def hashing_run(source: Path, output: Path, options: RunOptions | None = None, **settings: Any) -> dict[str, Any]:
    """Run in this process with the engine that needs no model; return the record of the run."""
    overrides = ["engine.kind=hashing", *(f"{key.replace('__', '.')}={value}" for key, value in settings.items())]
    config = local_config(*overrides, allow_untrained_dim=True)
    store = Store(root=output)
    outcome = run(str(source), store, config, fan_out=fan_out_here(store), options=options or ASKED)
    assert outcome.run.state == "complete"
    return {name: getattr(outcome.run, name) for name in outcome.run.__struct_fields__}


def crashing_run(
    source: Path, output: Path, kill_at: int | None, options: RunOptions | None = None, **settings: Any
) -> Ended:
    """Do the same in a process that dies before step `kill_at`, counted from 0; None lets it live."""
    return _crashing(output, kill_at, partial(hashing_run, source, output, options, **settings))


def crashing_command(output: Path, kill_at: int | None, *arguments: str | Path) -> Ended:
    """Run a command line in such a process."""
    return _crashing(output, kill_at, partial(main, [*map(str, arguments)]))


def _crashing(output: Path, kill_at: int | None, work: Callable[[], object]) -> Ended:
    told, tell = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=_child, args=(tell, output, kill_at, work))
    process.start()
    tell.close()
    steps = []
    try:
        while True:
            steps.append(told.recv())
    except EOFError:
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return Ended(killed=process.exitcode != 0, steps=tuple(steps))


def _child(tell: Any, output: Path, kill_at: int | None, work: Callable[[], object]) -> None:
    n_steps = 0

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal n_steps
        if event not in CHANGES or (event == "open" and not _writes(arguments)):
            return
        path = os.fsdecode(arguments[CHANGES[event]])
        if not path.startswith(f"{output}/") or path.endswith("/.progress"):  # which no run reads
            return
        if n_steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        n_steps += 1
        tell.send(f"{event} {_named(path.removeprefix(f'{output}/'))}")

    sys.addaudithook(audit)
    work()


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return isinstance(path, str) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _named(path: str) -> str:
    """Return a path without what differs from run to run."""
    path = re.sub(r"part-\w*-\d+-[0-9a-f]{16}", "part", path)
    path = re.sub(r"\.next/[0-9a-f]{16}", ".next", path)
    path = re.sub(r"\.attempts/[0-9a-f]{16}", ".attempts/chunk", path)
    path = re.sub(r"ready/\.?[0-9a-f]{16}", "ready/chunk", path)
    return re.sub(r"\.\d+\.tmp", ".tmp", path)
