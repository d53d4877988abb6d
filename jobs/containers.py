"""Containers of the service, as they say themselves in a shared Dict: what they cost, and why one did not start.

The driver reads it: Modal shows a caller neither when a container started nor why it keeps none waiting.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modal
import msgspec

from jobs import resources

BEAT_S = 5.0


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One container of the service; times are in seconds since the epoch, 0 for what has not happened."""

    task: str  # Modal's id of the container
    app: str  # id of the one whose class it is of
    config: str  # path below the repository
    gpu: str  # "" = none
    n_cpus: float
    memory_gib: float
    idle_window_s: float  # that it stays, and is paid for, after its last call
    started_at: float  # of its process, or of its waking from a snapshot
    ready_at: float = 0.0
    seen_at: float
    ended_at: float = 0.0
    tokens_under_way: int = 0  # that its engine is through with, of chunks in progress
    idle_since: float = 0.0  # that no call is in progress; 0 while one is, and before the first
    outputs: tuple[str, ...] = ()  # that it worked for, in the order of its first calls
    error: str = ""  # why its engine did not load


class Announced:
    """The record of this very container, kept up to date until it ends."""

    def __init__(self, record: ContainerRecord) -> None:
        self._record = record
        self._writing = threading.Lock()
        self._ending = threading.Event()
        self._n_calls = 0
        self._under_way: Callable[[], int] = int
        self.update()
        self._beats = threading.Thread(target=self._beat, name="record", daemon=True)
        self._beats.start()

    @property
    def record(self) -> ContainerRecord:
        """The record as it was written last."""
        return self._record

    def update(self, **changes: Any) -> None:
        """Change fields of the record and write it; a Dict that cannot be reached costs a beat, not a chunk."""
        with self._writing:
            self._record = msgspec.structs.replace(self._record, seen_at=time.time(), **changes)
            with contextlib.suppress(modal.exception.Error, OSError):
                resources.containers.put(self._record.task, msgspec.to_builtins(self._record))

    def watch(self, under_way: Callable[[], int]) -> None:
        """Let each beat say how many tokens the engine is through with, of chunks in progress."""
        self._under_way = under_way

    def works_for(self, output: str) -> None:
        """Add an output to those that it worked for."""
        if output not in self._record.outputs:
            self.update(outputs=(*self._record.outputs, output))

    def pause(self) -> None:
        """Write no more, until the container goes on under a record of its own; no write is under way then."""
        self._ending.set()
        self._beats.join()

    @contextlib.contextmanager
    def working(self, output: str = "") -> Iterator[None]:
        """Count a call, which may be for an output; the next beat says since when there is none in progress."""
        self._count_call(1, idle_since=0.0)
        try:
            if output:
                self.works_for(output)
            yield
        finally:
            self._count_call(-1, idle_since=time.time())

    def end(self) -> None:
        """Write that the container ends."""
        self.pause()
        self.update(ended_at=time.time())

    def _count_call(self, change: int, *, idle_since: float) -> None:
        with self._writing:
            self._n_calls += change
            self._record = msgspec.structs.replace(self._record, idle_since=0.0 if self._n_calls else idle_since)

    def _beat(self) -> None:
        while not self._ending.wait(BEAT_S):
            self.update(tokens_under_way=self._under_way())


def process_started_at() -> float:
    """Return when this process started, in seconds since the epoch (proc(5): field 22 of /proc/self/stat).

    Where the system does not say, that is now: no container fails for it.
    """
    try:
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return time.time()
    return time.time() - max(0.0, uptime_s - ticks / os.sysconf("SC_CLK_TCK"))


def containers_since(began_at: float) -> Iterator[ContainerRecord]:
    """Yield the records of containers that were there at `began_at`, in seconds since the epoch, or came later.

    One that another version of the service wrote is passed over: a run uses none but its own version.
    """
    for _, values in resources.containers.items():
        try:
            record = msgspec.convert(values, ContainerRecord)
        except msgspec.ValidationError:
            continue
        if (record.ended_at or record.seen_at) >= began_at:
            yield record
