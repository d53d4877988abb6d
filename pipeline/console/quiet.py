"""Silence: what an engine writes is kept from the terminal. And the memory that a process took."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DEBUG_VARIABLE = "EMBED_DEBUG"  # set by --debug
LOGGED_VARIABLE = "EMBED_LOGGED"  # set where what a process writes is its log, which nobody watches as it comes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what is written to stdout and stderr of this process out of sight.

    Under EMBED_DEBUG (set by --debug) everything goes to stderr as it comes. Under EMBED_LOGGED nothing is redirected:
    a process that is killed while an engine loads leaves a log.
    """
    if os.environ.get(LOGGED_VARIABLE):
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.ExitStack() as stack:
        out, err = os.dup(1), os.dup(2)
        stack.callback(_restore, out, err)
        if os.environ.get(DEBUG_VARIABLE):
            os.dup2(2, 1)
            yield
            return
        log = stack.enter_context(tempfile.TemporaryFile())
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        yield


def _restore(out: int, err: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)


def peak_rss_bytes() -> int:
    """Return the peak of this program alone: on Linux, getrusage also counts what its parent held before the exec."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
