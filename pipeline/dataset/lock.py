"""The lock of an output in a file system: a file that one run holds, and that it looks at before it writes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated

import msgspec

from pipeline.console import moment, repeating
from pipeline.errors import DamageError, OutputLockedError
from pipeline.files import open_file

NAME = ".lock"
BEAT_S = 5.0
STALE_S = 60.0  # without a beat: a holder on another machine is dead
LAST_S = 253_402_300_799  # since the epoch: the year 9999 ends
TRIES, TRY_EVERY_S = 5, 0.05  # a holder that has just begun has not said its name; one who only looks is gone again


def heartbeat(beat: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """Call `beat` every BEAT_S in a thread of its own."""
    return repeating(beat, BEAT_S, "lock")


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of the run that holds the folder."""

    host: str
    pid: int
    boot: str  # of the machine
    since: Annotated[float, msgspec.Meta(ge=0, le=LAST_S)] = 0.0  # since the epoch; 0 in a file of an earlier version


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The file of a lock as the run that holds it opened it."""

    root: Path
    descriptor: int
    text: bytes  # that names the holder

    def check(self) -> None:
        """Raise OutputLockedError unless the output's lock is still this file and still names this run.

        The file is opened anew: what another machine wrote in it is seen then.
        """
        if why := self._why_lost():
            raise OutputLockedError(
                f"output {self.root}: expected to hold it alone, found {why}; this run has stopped, run again"
            )

    def beat(self) -> None:
        """Show others that the run lives; nothing where it has lost the output, which its next write sees."""
        with contextlib.suppress(OSError):  # the next beat may come through; others wait STALE_S for one
            if not self._why_lost():
                os.utime(self.descriptor)

    def release(self) -> None:
        """Name nobody any more, unless the lock is another run's by now."""
        if not self._why_lost():
            os.ftruncate(self.descriptor, 0)

    def _why_lost(self) -> str:
        try:
            with open_file(self.root / NAME) as file:
                is_same = os.path.samestat(os.fstat(file.fileno()), os.fstat(self.descriptor))
                text = file.read(len(self.text) + 1)
        except OSError as error:
            return f"no {NAME} ({error.strerror}): it was deleted, or the folder was moved"
        if is_same and text == self.text:
            return ""
        return f"that another run has taken it over ({_in_words(text) or 'and ended'})"


@contextlib.contextmanager
def flock(root: Path) -> Iterator[Hold]:
    """Hold a folder; the system lets go when the process ends, however it ends.

    On a shared file system another machine may not see that. For it the file names the holder, and is touched every
    BEAT_S. Raises OutputLockedError naming the holder.
    """
    with open_file(root / NAME, "a+b") as file:
        if not _take(file) or _is_held_elsewhere(file):
            file.seek(0)
            named = _in_words(file.read()) or "it has just started"
            raise OutputLockedError(f"another run holds {root}: {named}; wait for it or stop it")
        file.truncate(0)
        holder = Holder(host=socket.gethostname(), pid=os.getpid(), boot=_boot(), since=time.time())
        text = json.dumps(msgspec.to_builtins(holder)).encode()
        file.write(text)
        file.flush()
        hold = Hold(root=root, descriptor=file.fileno(), text=text)
        hold.check()  # the file may have been replaced since it was opened
        try:
            with heartbeat(hold.beat):
                yield hold
        finally:
            hold.release()


def is_flocked(root: Path) -> bool:
    """Whether a run holds a folder at this moment; raises DamageError where the lock is no file that can be read."""
    try:
        with open_file(root / NAME) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _is_held_elsewhere(file)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise DamageError(
            f"{root / NAME}: expected the file of a lock, found {error.strerror}; move it away"
        ) from error


def _take(file: BufferedIOBase) -> bool:
    for _ in range(TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(TRY_EVERY_S)
    return False


def _is_held_elsewhere(file: BufferedIOBase) -> bool:
    """Whether the file names a holder on another machine that was heard of lately.

    A date in the future is no beat: a clock was wrong, or the file is a copy.
    """
    file.seek(0)
    if (holder := _holder(file.read())) is None:
        return False
    age_s = time.time() - os.fstat(file.fileno()).st_mtime
    return holder.boot != _boot() and abs(age_s) < STALE_S


def _holder(text: bytes) -> Holder | None:
    """Return the holder that the text of a lock names; None where it names none."""
    try:
        return msgspec.json.decode(text, type=Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _in_words(text: bytes) -> str:
    """Return who holds a lock, from its text; "" where it names nobody."""
    if (holder := _holder(text)) is None:
        return ""
    since = f", since {moment(holder.since)}" if holder.since else ""
    return f"process {holder.pid} on host {holder.host}{since}"


def _boot() -> str:
    """Return what names this machine since it was started; processes in different containers of it agree."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
