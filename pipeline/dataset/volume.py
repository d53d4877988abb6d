"""One run at a time: how an output is held on one machine. A run elsewhere brings its own way to hold it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import msgspec

from pipeline.errors import OutputLockedError

Hold = Callable[[Path], AbstractContextManager[None]]
NAME = ".lock"
BEAT_S = 5.0
STALE_S = 60.0  # without a beat: a holder on another machine is dead
TRIES, TRY_EVERY_S = 5, 0.05  # a holder that has just begun has not said its name; one who only looks is gone again


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of the run that holds the folder."""

    host: str
    pid: int
    boot: str  # of the machine


@contextlib.contextmanager
def flock(root: Path) -> Iterator[None]:
    """Hold a folder; the system lets go when the process ends, however it ends.

    On a shared file system another machine may not see that. For it the file names the holder, and is touched every
    BEAT_S. Raises OutputLockedError naming the holder.
    """
    with (root / NAME).open("a+", encoding="utf-8") as file:
        if not _take(file) or _is_held_elsewhere(file):
            file.seek(0)
            named = file.read().strip() or "just started"
            raise OutputLockedError(f"output {root}: another run holds it ({named}); wait for it or stop it")
        file.truncate(0)
        holder = Holder(host=socket.gethostname(), pid=os.getpid(), boot=_boot())
        file.write(json.dumps(msgspec.to_builtins(holder)))
        file.flush()
        released = threading.Event()
        beating = threading.Thread(target=_beat, args=(root / NAME, released), name="lock", daemon=True)
        beating.start()
        try:
            yield
        finally:
            released.set()
            beating.join()
            file.truncate(0)


def is_flocked(root: Path) -> bool:
    """Whether a run holds a folder at this moment."""
    try:
        with (root / NAME).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _is_held_elsewhere(file)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def _take(file: IO[str]) -> bool:
    for _ in range(TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(TRY_EVERY_S)
    return False


def _is_held_elsewhere(file: IO[str]) -> bool:
    """Whether the file names a holder on another machine that was heard of lately."""
    file.seek(0)
    try:
        holder = msgspec.json.decode(file.read(), type=Holder)
    except msgspec.DecodeError:
        return False
    return holder.boot != _boot() and time.time() - os.fstat(file.fileno()).st_mtime < STALE_S


def _beat(path: Path, released: threading.Event) -> None:
    while not released.wait(BEAT_S):
        with contextlib.suppress(OSError):  # the next beat may come through; others wait STALE_S for one
            os.utime(path)


def _boot() -> str:
    """Return what names this machine since it was started; processes in different containers of it agree."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
