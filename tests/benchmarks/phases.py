"""Phases: in which files of the pipeline this process computes, found by looking at its threads again and again."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from pathlib import Path, PurePath
from types import FrameType
from typing import Self

EVERY_S = 0.005
TASKS = Path("/proc/self/task")


class Sampler:
    """Looks at every other thread each EVERY_S, and adds the processor's time that it took since to where it is now.

    Linux alone says how much that is; elsewhere nothing is found. A look needs the interpreter's lock, so what a call
    took that holds it long is added as the call ends. The threads of libraries are not seen.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._before: dict[int, float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of the processor by file, the most first."""
        most = sorted(self._seconds.items(), key=lambda each: -each[1])
        return {name: round(seconds, 3) for name, seconds in most}

    def _watch(self) -> None:
        while not self._done.wait(EVERY_S):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                if thread is self._thread or thread.native_id is None:
                    continue
                now = _cpu_s(thread.native_id)
                took_s = now - self._before.get(thread.native_id, now)
                self._before[thread.native_id] = now
                if took_s > 0:
                    self._seconds[file_of(frames.get(thread.ident or 0))] += took_s


def file_of(frame: FrameType | None) -> str:
    """Return the innermost file of the pipeline that a frame is in, as "worker/table.py"; "elsewhere" for none."""
    while frame is not None:
        parts = PurePath(frame.f_code.co_filename).parts
        if "pipeline" in parts:
            return "/".join(parts[len(parts) - parts[::-1].index("pipeline") :])
        frame = frame.f_back
    return "elsewhere"


def _cpu_s(native_id: int) -> float:
    """Return the seconds that a thread was on a processor; 0 where that is not said."""
    path = TASKS / str(native_id) / "schedstat"
    try:
        return int(path.read_text().split()[0]) / 1e9
    except OSError:
        return 0.0
