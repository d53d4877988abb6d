"""The output volume on Modal. Shared Dicts hold what a volume cannot: the lock of an output, and its attempts."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal
import msgspec

from jobs import resources
from pipeline.chunk import Chunk
from pipeline.console import Progress
from pipeline.dataset import BEAT_S, STALE_S, Attempt, heartbeat
from pipeline.errors import OutputLockedError


class ModalVolume:
    """The output volume as one container sees it; with `beside`, what is reloaded together with it."""

    def __init__(self, *beside: modal.Volume) -> None:
        self.writing = threading.Lock()
        self.max_parts = resources.MAX_PARTS[resources.RENTED.output_version]
        self._beside = beside
        self._locks: dict[str, OutputLock] = {}

    def commit(self) -> None:
        """Make what was written durable, and visible elsewhere."""
        resources.output.commit()

    def reload(self) -> None:
        """Show what others have committed."""
        for volume in (*self._beside, resources.output):
            volume.reload()

    def hold(self, root: Path) -> contextlib.AbstractContextManager[None]:
        """Keep other runs out of an output; raises OutputLockedError naming the holder."""
        return self.lock(root).hold()

    def is_held(self, root: Path) -> bool:
        """Whether a run holds an output: there is an entry that was touched lately."""
        entry = resources.locks.get(_name(root))
        return entry is not None and abs(time.time() - entry["beat_at"]) < STALE_S

    def lock(self, root: Path) -> OutputLock:
        """Return the lock of an output, which says whether it is still held and shows others how far a run is."""
        output = _name(root)
        return self._locks.setdefault(output, OutputLock(output))

    def check_held(self) -> None:
        """Raise OutputLockedError when another run has taken over an output that is held here; a container of the
        service holds none."""
        for lock in tuple(self._locks.values()):
            lock.check_held()

    def attempts(self, root: Path) -> DictAttempts:
        """Return the attempts on the chunks of an output."""
        return DictAttempts(_name(root))

    def show(self, root: Path, progress: Progress | None) -> None:
        """Show others how far the run is that holds an output, from the next beat on."""
        self.lock(root).show(progress)

    def shown(self, root: Path) -> Progress | None:
        """Return how far the run of an output was at its last beat."""
        return progress_in(resources.locks.get(_name(root)))


class DictAttempts:
    """An entry for each chunk in a shared Dict, by output and chunk."""

    def __init__(self, output: str) -> None:
        self._output = output

    def put(self, chunk: Chunk, deaths: int) -> None:
        """Record how many attempts on a chunk have not ended; 0 removes its record."""
        if deaths:
            attempt = Attempt(chunk=chunk, deaths=deaths)
            resources.attempts.put((self._output, chunk.id), msgspec.to_builtins(attempt))
        else:
            resources.attempts.pop((self._output, chunk.id), None)

    def read(self) -> list[Attempt]:
        """Return all records of the output."""
        entries = resources.attempts.items()
        return [msgspec.convert(attempt, Attempt) for (output, _), attempt in entries if output == self._output]


class OutputLock:
    """Holds one output for one function call; a call that Modal restarts takes its own lock over at once.

    It is an entry of a shared Dict with a heartbeat. The entry also says in which container the call runs, as the one
    before may have seconds to live, and how far the run is.
    """

    def __init__(self, output: str) -> None:
        self._output = output
        self._owner = modal.current_function_call_id() or uuid.uuid4().hex
        self._container = os.environ.get("MODAL_TASK_ID", "")
        self._claim = ""  # an entry of its own, where a dead holder was taken over
        self._progress: Progress | None = None
        self._beating = threading.Lock()
        self._holds = self._lost = False
        self._beat_at = 0.0  # in seconds since the epoch: a clock that goes on while a container is frozen

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the output; raises OutputLockedError naming the holder."""
        try:
            if not resources.locks.put(self._output, self._entry(), skip_if_exists=True):
                self._take_over()
            self._beat_at, self._holds = time.time(), True
            with heartbeat(self._beat):
                yield
        finally:
            if self._holds and not self._lost and self.is_ours():
                resources.locks.pop(self._output, None)
            self._holds = False
            if self._claim:
                resources.locks.pop(self._claim, None)

    def check_held(self) -> None:
        """Raise OutputLockedError when another run has taken the output over; asks anew where beats have failed to
        come, as after a stall."""
        if self._holds and abs(time.time() - self._beat_at) > 2 * BEAT_S:
            self._beat()
        if self._lost:
            raise OutputLockedError(f"output {self._output}: another run took it over while this one was stalled")

    def is_ours(self) -> bool:
        """Ask whether the entry of the output is that of this call in this container."""
        return self._is(resources.locks.get(self._output))

    def show(self, progress: Progress | None) -> None:
        """Show how far the run is to those who watch it, from the next beat on."""
        self._progress = progress

    def _entry(self) -> dict[str, Any]:
        shown = msgspec.to_builtins(self._progress)
        return {"owner": self._owner, "container": self._container, "beat_at": time.time(), "progress": shown}

    def _is(self, held: Any) -> bool:
        return held is not None and (held["owner"], held.get("container", "")) == (self._owner, self._container)

    def _take_over(self) -> None:
        held = resources.locks.get(self._output) or {"owner": self._owner, "beat_at": 0.0}
        if held["owner"] == self._owner:
            resources.locks.put(self._output, self._entry())
            return
        # Of several that find the same dead holder, one wins this entry. A beat in the future is none.
        age_s = time.time() - held["beat_at"]
        claim = f"{self._output} after {held['owner']} {held['beat_at']}"
        is_first = abs(age_s) >= STALE_S and resources.locks.put(claim, self._owner, skip_if_exists=True)
        self._claim = claim if is_first else ""
        if not is_first or resources.locks.get(self._output) != held:
            raise OutputLockedError(
                f"output {self._output}: another run holds it (call {held['owner']}, last heard of {age_s:.0f} s "
                "ago); wait for it or stop it"
            )
        resources.locks.put(self._output, self._entry())

    def _beat(self) -> None:
        with self._beating:
            if self._lost:
                return
            try:
                held = resources.locks.get(self._output)
                if self._is(held) or held is None:
                    resources.locks.put(self._output, self._entry())
                    self._beat_at = time.time()
                else:
                    self._lost = True
            except (modal.exception.Error, OSError):  # the next beat may come through; others wait STALE_S for one
                self._lost = abs(time.time() - self._beat_at) > STALE_S - 2 * BEAT_S


def progress_in(entry: dict[str, Any] | None) -> Progress | None:
    """Return how far a run is by the entry of its output; None where it does not say, or is of another version."""
    with contextlib.suppress(msgspec.ValidationError):
        return msgspec.convert((entry or {}).get("progress"), Progress | None)
    return None


def _name(root: Path) -> str:
    return str(root.relative_to(resources.OUTPUT))
