"""Signals: the first one stops a run in order, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by a signal; its text names the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNALS[signal.Signals(number)])
        self.exit_code = 128 + number
        self.left = ""  # in words: how far what was stopped is, and what to type to go on


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
