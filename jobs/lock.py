"""The lock of an output on Modal: an entry of a shared Dict with a heartbeat, because a volume cannot lock a file.

The entry also says how far the run is, for whoever watches it.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal

from jobs.resources import locks
from pipeline.errors import OutputLockedError

BEAT_S = 5.0
STALE_S = 60.0  # without a beat: the holder is dead


class OutputLock:
    """Holds one output for one function call; a call that Modal restarts takes its own lock over at once."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._owner = modal.current_function_call_id() or uuid.uuid4().hex
        self._progress: dict[str, Any] = {}
        self._lost = False

    @contextlib.contextmanager
    def hold(self, root: Path) -> Iterator[None]:
        """Hold the output; raises OutputLockedError naming the holder."""
        if not locks.put(self._output, self._entry(), skip_if_exists=True):
            self._take_over()
        released = threading.Event()
        beating = threading.Thread(target=self._beat, args=(released,), name="lock", daemon=True)
        beating.start()
        try:
            yield
        finally:
            released.set()
            beating.join()
            if not self._lost:
                locks.pop(self._output, None)

    def tell(self, **progress: Any) -> None:
        """Say how far the run is; raises OutputLockedError when another run has taken the output over meanwhile."""
        self._progress = progress
        if self._lost:
            raise OutputLockedError(f"output {self._output}: another run took it over while this one was stalled")

    def _entry(self) -> dict[str, Any]:
        return {"owner": self._owner, "beat_at": time.time(), **self._progress}

    def _take_over(self) -> None:
        held = locks.get(self._output) or {"owner": self._owner, "beat_at": 0.0}
        age_s = time.time() - held["beat_at"]
        if held["owner"] != self._owner:
            # Of several that find the same dead holder, one wins this entry.
            claim = f"{self._output} after {held['owner']} {held['beat_at']}"
            if age_s < STALE_S or not locks.put(claim, self._owner, skip_if_exists=True):
                raise OutputLockedError(
                    f"output {self._output}: another run holds it (call {held['owner']}, last heard of {age_s:.0f} s "
                    "ago); wait for it or stop it"
                )
        locks.put(self._output, self._entry())

    def _beat(self, released: threading.Event) -> None:
        beat_at = time.monotonic()
        while not self._lost and not released.wait(BEAT_S):
            try:
                held = locks.get(self._output)
                if held is not None and held["owner"] != self._owner:
                    self._lost = True
                    return
                locks.put(self._output, self._entry())
                beat_at = time.monotonic()
            except (modal.exception.Error, OSError):  # the next beat may come through; others wait STALE_S for one
                self._lost = time.monotonic() - beat_at > STALE_S - 2 * BEAT_S
