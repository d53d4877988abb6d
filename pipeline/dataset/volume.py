"""A volume: what an output needs of the place where it is kept, beyond files.

A run holds its output, so that no other run writes it. It counts the attempts on chunks that have begun and not ended,
where the crash of a process does not reach them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import msgspec

from pipeline.chunk import Chunk
from pipeline.errors import OutputLockedError
from pipeline.files import remove_file, writing

NAME = ".lock"
ATTEMPTS = ".attempts"  # a folder of the output
BEAT_S = 5.0
STALE_S = 60.0  # without a beat: a holder on another machine is dead
TRIES, TRY_EVERY_S = 5, 0.05  # a holder that has just begun has not said its name; one who only looks is gone again


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk with the number of attempts on it that never ended."""

    chunk: Chunk
    deaths: int


class Attempts(Protocol):
    """The attempts on the chunks of one output; they outlive the process that makes them."""

    def put(self, chunk: Chunk, deaths: int) -> None:
        """Record how many attempts on a chunk have not ended; 0 removes its record."""
        ...

    def read(self) -> list[Attempt]:
        """Return all records, in no order."""
        ...


class Volume(Protocol):
    """Where outputs are kept.

    A commit may need every file of a volume closed. So no thread writes during one: who writes, commits or reloads
    holds `writing`, which all stores of the volume share.
    """

    @property
    def writing(self) -> threading.Lock:
        """The lock of all who write."""
        ...

    def commit(self) -> None:
        """Make what was written durable, and visible elsewhere."""
        ...

    def reload(self) -> None:
        """Show what others have committed."""
        ...

    def hold(self, root: Path) -> AbstractContextManager[None]:
        """Keep other runs out of an output; raises OutputLockedError naming the holder."""
        ...

    def attempts(self, root: Path) -> Attempts:
        """Return the attempts on the chunks of an output."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalVolume:
    """A file system: what is written is there for all, and nothing needs a commit."""

    writing: threading.Lock = field(default_factory=threading.Lock)

    def commit(self) -> None:
        """Do nothing."""

    def reload(self) -> None:
        """Do nothing."""

    def hold(self, root: Path) -> AbstractContextManager[None]:
        """Keep other runs out of an output; raises OutputLockedError naming the holder."""
        return flock(root)

    def attempts(self, root: Path) -> Attempts:
        """Return the attempts on the chunks of an output."""
        return AttemptFiles(root / ATTEMPTS)


class AttemptFiles:
    """A file for each chunk. They are not flushed: it is a process that dies, and the system writes them later."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, chunk: Chunk, deaths: int) -> None:
        """Record how many attempts on a chunk have not ended; 0 removes its record."""
        path = self._folder / f"{chunk.id}.json"
        if not deaths:
            remove_file(path)
            return
        with writing(path):
            self._folder.mkdir(exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(msgspec.json.encode(Attempt(chunk=chunk, deaths=deaths)))
            temporary.replace(path)

    def read(self) -> list[Attempt]:
        """Return all records; a file that is none counts as no attempt."""
        found = []
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
                found.append(msgspec.json.decode(path.read_bytes(), type=Attempt))
        return found


def deaths_of(chunk: Chunk, attempts: Sequence[Attempt]) -> int:
    """Return how many attempts on a chunk never ended."""
    return next((attempt.deaths for attempt in attempts if attempt.chunk.id == chunk.id), 0)


@contextlib.contextmanager
def heartbeat(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` every BEAT_S in a thread of its own."""
    released = threading.Event()

    def go_on() -> None:
        while not released.wait(BEAT_S):
            beat()

    beating = threading.Thread(target=go_on, name="lock", daemon=True)
    beating.start()
    try:
        yield
    finally:
        released.set()
        beating.join()


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
        try:
            with heartbeat(lambda: _touch(root / NAME)):
                yield
        finally:
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


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):  # the next beat may come through; others wait STALE_S for one
        os.utime(path)


def _boot() -> str:
    """Return what names this machine since it was started; processes in different containers of it agree."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
