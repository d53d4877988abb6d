"""One run at a time: how an output is held on one machine. A run elsewhere brings its own way to hold it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.errors import OutputLockedError

Hold = Callable[[Path], AbstractContextManager[None]]
NAME = ".lock"


@contextlib.contextmanager
def flock(root: Path) -> Iterator[None]:
    """Hold a folder; the system lets go when the process ends, however it ends.

    Raises OutputLockedError naming the holder.
    """
    with (root / NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "just started"
            raise OutputLockedError(
                f"output {root}: another run holds it ({holder}); wait for it or stop it"
            ) from error
        file.truncate(0)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        yield


def is_flocked(root: Path) -> bool:
    """Whether a run of this machine holds a folder at this moment."""
    try:
        with (root / NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
