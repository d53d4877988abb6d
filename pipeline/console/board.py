"""The board: what a run is at, written by the run and looked at by all who watch it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

READING = "reading the input"
LOADING = "loading the model"
EMBEDDING = "embedding"
PUBLISHING = "publishing"
CHECKING = "checking"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is at one moment; times are in seconds since the epoch, 0 for what has not happened."""

    phase: str = ""
    began_at: float = 0.0  # of the run
    phase_at: float = 0.0  # that the phase began
    at: float = 0.0  # of this record
    files: int = 0  # that were read
    n_files: int = 0
    kept_rows: int = 0  # that the output had before
    rows: int = 0  # that were made, and are safe
    n_rows: int = 0  # to make, about
    share: float = 0.0  # of the work on them, with what is in the engine
    tokens: int = 0  # that the engine was through with
    n_tokens: int = 0  # to make, about
    tokens_per_s: float = 0.0
    last_load_s: float = 0.0  # that loading took the last time, where that is known
    left_s: float | None = None
    rejected: int = 0
    spent_usd: float = 0.0
    usd_per_s: float = 0.0  # at this moment
    command: str = ""  # that goes on with the run


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What the engines of a run are at."""

    ready_at: float = 0.0  # of the first, in seconds since the epoch; 0 until then
    tokens: int = 0  # that they are through with, of chunks in progress
    spent_usd: float = 0.0
    usd_per_s: float = 0.0


class Board:
    """Holds what a run is at. One thread writes it; any may look."""

    def __init__(self, command: str = "") -> None:
        now = time.time()
        self._progress = Progress(began_at=now, phase_at=now, command=command)
        self._work: Callable[[], Work] = Work
        self._weight = self._made_weight = 0.0  # estimated tokens: of all chunks, of those that are made
        self._least_share = 0.0
        self._listeners: list[Callable[[Progress], None]] = []

    @contextlib.contextmanager
    def heard_by(self, listener: Callable[[Progress], None]) -> Iterator[None]:
        """Call a function with what the run is at at once, and as soon as a phase begins."""
        listener(self.look())
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def enter(self, phase: str, *, n_files: int = 0) -> None:
        """Begin a phase."""
        is_new = phase != self._progress.phase
        phase_at = time.time() if is_new else self._progress.phase_at
        self._set(phase=phase, phase_at=phase_at, files=0, n_files=n_files)
        self._tell()

    def read(self) -> None:
        """Count a file that was read."""
        self._set(files=self._progress.files + 1)

    def embed(self, *, n_rows: int, weight: float, kept_rows: int = 0, last_load_s: float = 0.0) -> None:
        """Begin to embed rows whose tokens are estimated to be `weight`."""
        self._weight = weight
        self._set(n_rows=n_rows, n_tokens=round(weight), kept_rows=kept_rows, last_load_s=last_load_s)
        self.enter(EMBEDDING)

    def watch(self, work: Callable[[], Work]) -> None:
        """Take what the engines are at from a function, which any thread may call."""
        self._work = work

    def finish(self, *, rows: int, rejected: int, tokens: int, weight: float) -> None:
        """Count a chunk that is made; `weight` is what its tokens were estimated to be."""
        before = self._progress
        self._made_weight += weight
        self._set(rows=before.rows + rows, rejected=before.rejected + rejected, tokens=before.tokens + tokens)
        if not before.rows:
            self._tell()  # before, the engine may not have been seen to be ready

    def look(self) -> Progress:
        """Return how far the run is now."""
        now, found, work = time.time(), self._progress, self._work()
        found = msgspec.structs.replace(found, at=now, spent_usd=work.spent_usd, usd_per_s=work.usd_per_s)
        if found.phase != EMBEDDING:
            return found
        if not (work.ready_at or found.rows):
            return msgspec.structs.replace(found, phase=LOADING)
        began_at = max(work.ready_at, found.phase_at)
        tokens, share = found.tokens + work.tokens, self._share(work.tokens)
        passed_s = max(now - began_at, 1e-9)
        return msgspec.structs.replace(
            found,
            phase_at=began_at,
            tokens=tokens,
            tokens_per_s=round(tokens / passed_s, 1),
            share=share,
            left_s=round(passed_s * (1 - share) / share, 1) if share else None,
        )

    def _tell(self) -> None:
        for listener in self._listeners:
            listener(self.look())

    def _share(self, under_way: int) -> float:
        """Return the share of the work that is done; it never falls, though a chunk may fail or wait for its part."""
        made = self._progress.tokens
        scale = self._made_weight / made if made and self._made_weight else 1.0
        done = min(self._made_weight + under_way * scale, self._weight) / max(self._weight, 1.0)
        self._least_share = max(self._least_share, done)
        return round(self._least_share, 4)

    def _set(self, **changes: object) -> None:
        self._progress = msgspec.structs.replace(self._progress, **changes)


_boards = [Board()]  # the first is that of a program which nobody watches


def board() -> Board:
    """Return the board of the run that is being watched."""
    return _boards[-1]


@contextlib.contextmanager
def watched(own: Board) -> Iterator[Board]:
    """Let a board be the one that a run writes."""
    _boards.append(own)
    try:
        yield own
    finally:
        _boards.remove(own)


@contextlib.contextmanager
def repeating(call: Callable[[], None], every_s: float, name: str) -> Iterator[None]:
    """Call a function every so often, in a thread of its own that never outlives the context."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every_s):
            call()

    thread = threading.Thread(target=go_on, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
