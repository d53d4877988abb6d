"""A volume: what an output needs of the place where it is kept, beyond files.

A run holds its output, so that no other run writes it. It counts the attempts on chunks that have begun and not ended,
where the crash of a process does not reach them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from pipeline.chunk import Chunk
from pipeline.console import Progress
from pipeline.dataset.layout import ATTEMPTS, PROGRESS
from pipeline.dataset.lock import Hold, flock, is_flocked
from pipeline.errors import OutputLockedError
from pipeline.files import open_file, read_file, remove_file, writing


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

    @property
    def max_parts(self) -> int | None:
        """How many parts an output may have here; None where nothing limits them."""
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

    def is_held(self, root: Path) -> bool:
        """Whether a run holds an output at this moment."""
        ...

    def check_held(self) -> None:
        """Raise OutputLockedError where another run has taken over an output that is held here; asked before each
        write."""
        ...

    def attempts(self, root: Path) -> Attempts:
        """Return the attempts on the chunks of an output."""
        ...

    def show(self, root: Path, progress: Progress | None) -> None:
        """Show others how far the run is that holds an output; None once it has ended well."""
        ...

    def shown(self, root: Path) -> Progress | None:
        """Return how far the run of an output was when it was last heard of; None where it has ended well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalVolume:
    """A file system: what is written is there for all, and nothing needs a commit."""

    writing: threading.Lock = field(default_factory=threading.Lock)
    holds: dict[Path, Hold] = field(default_factory=dict)  # by output
    max_parts: int | None = None

    def commit(self) -> None:
        """Do nothing."""

    def reload(self) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def hold(self, root: Path) -> Iterator[None]:
        """Keep other runs out of an output; raises OutputLockedError naming the holder."""
        with flock(root) as hold:
            self.holds[root] = hold
            try:
                yield
            except Exception:
                del self.holds[root]
                raise
            except BaseException:  # stopped: a thread that is still at work is to find that nothing is held any more
                with self.writing:
                    hold.release()
                raise
            del self.holds[root]

    def is_held(self, root: Path) -> bool:
        """Whether a run holds an output at this moment."""
        return is_flocked(root)

    def check_held(self) -> None:
        """Raise OutputLockedError where another run has taken over an output that is held here."""
        for hold in tuple(self.holds.values()):
            hold.check()

    def attempts(self, root: Path) -> Attempts:
        """Return the attempts on the chunks of an output."""
        return AttemptFiles(root / ATTEMPTS, self.check_held)

    def show(self, root: Path, progress: Progress | None) -> None:
        """Write it into a file; one that cannot be written, or that is half written, costs nobody but who watches."""
        with contextlib.suppress(OSError, OutputLockedError):
            self.check_held()
            if progress is None:
                remove_file(root / PROGRESS)
                return
            with open_file(root / PROGRESS, "wb") as file:
                file.write(msgspec.json.encode(progress))

    def shown(self, root: Path) -> Progress | None:
        """Return what the file says; None where it says nothing."""
        try:
            return msgspec.json.decode(read_file(root / PROGRESS), type=Progress)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None


class AttemptFiles:
    """A file for each chunk. They are not flushed: it is a process that dies, and the system writes them later.

    `check_held` raises where the output is another run's by now; nothing is written then.
    """

    def __init__(self, folder: Path, check_held: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._check_held = check_held

    def put(self, chunk: Chunk, deaths: int) -> None:
        """Record how many attempts on a chunk have not ended; 0 removes its record."""
        path = self._folder / f"{chunk.id}.json"
        self._check_held()
        if not deaths:
            remove_file(path)
            return
        with writing(path):
            self._folder.mkdir(exist_ok=True)
            temporary = path.with_suffix(".tmp")
            with open_file(temporary, "wb") as file:
                file.write(msgspec.json.encode(Attempt(chunk=chunk, deaths=deaths)))
            temporary.replace(path)

    def read(self) -> list[Attempt]:
        """Return all records; a file that is none counts as no attempt."""
        found = []
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
                found.append(msgspec.json.decode(read_file(path), type=Attempt))
        return found


def deaths_of(chunk: Chunk, attempts: Sequence[Attempt]) -> int:
    """Return how many attempts on a chunk never ended."""
    return next((attempt.deaths for attempt in attempts if attempt.chunk.id == chunk.id), 0)
