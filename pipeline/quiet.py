"""Silence for engines that write to the terminal, from Python and from C++ alike."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

DEBUG_VARIABLE = "EMBED_DEBUG"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what is written to stdout and stderr of this process out of sight.

    Under EMBED_DEBUG (set by --debug) everything goes to stderr as it comes.
    """
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
