"""A terminal for a command, and what a person sees in it: every picture, one after the other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

ERASE = b"\r\x1b[K"
N_LINES = 40


class Terminal:
    """A process in a terminal of some width; `pictures` are the lines that were seen in it, one picture a change."""

    def __init__(
        self, command: Sequence[str], columns: int, folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.columns = columns
        self.pictures: list[tuple[str, ...]] = []
        self._screen = pyte.Screen(columns, N_LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", N_LINES, columns, 0, 0))
        self.process = subprocess.Popen(
            ["env", "--default-signal=INT", *command],
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, **(env or {}), "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)

    def watch(self, until: Callable[[tuple[str, ...]], bool] = lambda _: False) -> tuple[str, ...]:
        """Look until a picture is as wished, or the process has ended; return the last one."""
        while not (self.pictures and until(self.pictures[-1])):
            try:
                data = os.read(self._ours, 1 << 16)
            except OSError:  # nobody writes any more
                break
            for at, piece in enumerate(data.split(ERASE)):
                self._stream.feed(ERASE * (at > 0) + piece)
                self._look()
        return self.pictures[-1]

    def type(self, text: str) -> None:
        """Type what a person types; a line end is Enter."""
        os.write(self._ours, text.encode())

    def end(self, number: int = 0) -> int:
        """Send a signal, if one is given, look until the process has ended and return its exit code."""
        if number:
            self.process.send_signal(number)
        self.watch()
        code = self.process.wait(60)
        with contextlib.suppress(OSError):
            os.close(self._ours)
        return code

    def kill(self) -> None:
        """Kill the process, and see what it left."""
        assert self.end(signal.SIGKILL) == -signal.SIGKILL

    def _look(self) -> None:
        picture = tuple(line.rstrip() for line in self._screen.display if line.strip())
        if picture and picture != (self.pictures[-1] if self.pictures else ()):
            self.pictures.append(picture)
