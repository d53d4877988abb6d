"""The terminal: notices, progress, signals and silence, and the memory that a process took."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from tqdm import tqdm

LINE_EVERY_S = 10.0
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
DEBUG_VARIABLE = "EMBED_DEBUG"  # set by --debug
LOGGED_VARIABLE = "EMBED_LOGGED"  # set where what a process writes is its log, which nobody watches as it comes


def in_one_line(text: str) -> str:
    """Return a text with what a terminal does not print as it is (controls, line ends, lone surrogates) as escapes."""
    return text if text.isprintable() else "".join(map(_printed, text))


def _printed(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


_kept: list[list[str]] = []


def note(text: str) -> None:
    """Write a line."""
    line = in_one_line(text)
    sys.stderr.write(f"embed-corpus: {line}\n")
    for notes in _kept:
        notes.append(line)


@contextlib.contextmanager
def keep_notes() -> Iterator[list[str]]:
    """Yield a list that gets the lines that are written meanwhile, for one who does not see this terminal."""
    notes: list[str] = []
    _kept.append(notes)
    try:
        yield notes
    finally:
        _kept.remove(notes)


class Progress:
    """Shows how far a run is: a live bar on a terminal, elsewhere a line every LINE_EVERY_S.

    It writes past any redirection of stderr that comes later.
    """

    def __init__(self, n_rows: int) -> None:
        self._stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
        self._live = self._stream.isatty()
        self._bar = tqdm(total=n_rows, unit=" rows", file=self._stream, disable=not self._live, smoothing=0.1)
        self._n_rows, self._rows, self._tokens = n_rows, 0, 0
        self._began = self._said = time.time()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._stream.close()

    def add(self, n_rows: int, n_tokens: int, engine_ready_at: float) -> None:
        """Count a finished chunk; `engine_ready_at` is in seconds since the epoch, 0 where no engine was needed."""
        if not self._rows and engine_ready_at:
            self._began = engine_ready_at  # what loading took says nothing of what is left
        self._rows += n_rows
        self._tokens += n_tokens
        now = time.time()
        rate = self._tokens / max(now - self._began, 1e-9)
        self._bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
        self._bar.update(n_rows)
        if not self._live and now - self._said >= LINE_EVERY_S:
            self._said = now
            left_s = (now - self._began) * (self._n_rows - self._rows) / max(self._rows, 1)
            self._stream.write(
                f"{self._rows:,} of {self._n_rows:,} rows, {rate:,.0f} tokens/s, about {left_s:,.0f} s left\n"
            )
            self._stream.flush()


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by a signal; its text names the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALS[signal.Signals(number)])
        self.exit_code = 128 + number


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into Stopped and let a second one end the process; for the main thread."""
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, lambda number, frame: os._exit(128 + number))
    raise Stopped(number)


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
