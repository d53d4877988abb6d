"""The screen: what the board says, as a line that is alive on a terminal, elsewhere as a line from time to time."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Self, TextIO

import msgspec
from tqdm import tqdm

from pipeline.console.board import EMBEDDING, Board, Progress, repeating, watched
from pipeline.console.notes import written_by
from pipeline.console.stop import Stopped
from pipeline.console.words import describe, describe_end, describe_stop

TICK_S = 1.0
LINE_EVERY_S = 10.0
BAR_WIDTHS = range(8, 31)  # columns: what says something, and what is enough
NO_COLUMNS = 80  # of a terminal that does not know how wide it is
ERASE = "\r\x1b[K"  # back to the start of the line, and all of it away (ECMA-48: EL)


class Screen:
    """Shows a progress on a stream; any thread may hand it one.

    Where nothing is alive it says something every LINE_EVERY_S, and nothing of what is over sooner.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_live = stream.isatty()
        self._turn = threading.RLock()
        self._before = Progress()
        self._said_at = 0.0
        self._drawn = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Take away what is alive."""
        with self._turn:
            self._draw("")

    def show(self, now: Progress) -> None:
        """Show how far a run is now."""
        with self._turn:
            before, self._before = self._before, now
            ended = describe_end(_at_its_end(before, now)) if now.phase != before.phase else ""
            if self._is_live:
                if ended:
                    self.write(f"{ended}\n")
                self._draw(_drawn(now, self._width()))
            elif now.at - (self._said_at or now.began_at) >= LINE_EVERY_S:
                self._said_at = now.at
                self.write(f"{describe(now)}\n")

    def write(self, text: str) -> None:
        """Write a line above what is alive."""
        with self._turn:
            drawn = self._drawn
            self._draw("")
            wide = self._is_live and len(text) > self._width()
            self._stream.write(textwrap.fill(text, self._width(), subsequent_indent="  ") + "\n" if wide else text)
            self._draw(drawn)
            self._stream.flush()

    def _width(self) -> int:
        columns = os.get_terminal_size(self._stream.fileno()).columns or NO_COLUMNS
        return columns - 1  # in the last one a terminal may begin a new line

    def _draw(self, line: str) -> None:
        if line or self._drawn:
            self._stream.write(ERASE + line)
            self._stream.flush()
        self._drawn = line


def _drawn(progress: Progress, width: int) -> str:
    """Return the line of a phase, with a bar where there is room for one."""
    line = describe(progress, width)
    room = min(width - len(line) - 3, BAR_WIDTHS[-1])
    share = progress.share if progress.phase == EMBEDDING else _share_read(progress)
    if room < BAR_WIDTHS[0] or share is None:
        return line
    bar = tqdm.format_meter(share, 1.0, 0.0, ncols=room, bar_format="{bar}")
    return f"{bar}| {line}"


def _share_read(progress: Progress) -> float | None:
    return progress.files / progress.n_files if progress.n_files > 1 else None


def _at_its_end(before: Progress, now: Progress) -> Progress:
    """Return a phase as it was when the next one began, with what came of it."""
    return msgspec.structs.replace(before, at=now.phase_at, n_rows=now.n_rows, n_tokens=now.n_tokens)


@contextlib.contextmanager
def screen_on_stderr() -> Iterator[Screen]:
    """Yield a screen on stderr; what redirects that later does not hide it."""
    with (
        os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace") as stream,
        Screen(stream) as shown,
    ):
        yield shown


@contextlib.contextmanager
def screen(command: str = "", stream: TextIO | None = None) -> Iterator[Board]:
    """Show on stderr, or on another stream, what a run is at, from now on.

    `command` goes on with the run when it is stopped.
    """
    with (
        screen_on_stderr() if stream is None else Screen(stream) as shown,
        watched(Board(command)) as board,
        written_by(shown.write),
        board.heard_by(shown.show),
        repeating(lambda: shown.show(board.look()), TICK_S, "screen"),
    ):
        try:
            yield board
        except Stopped as stop:
            stop.left = describe_stop(board.look())
            raise
