"""An attempt on a chunk: recorded before it begins and removed when it ends, so that a record that stays is a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pipeline.chunk import Chunk
from pipeline.dataset import Attempts
from pipeline.engines import Embedded, Engine, EngineThread, MadeBy
from pipeline.errors import BrokenEngineError


class LoadingEngine:
    """An engine that says when it is loaded and about to be used for the first time."""

    def __init__(self, engine: EngineThread, tell: Callable[[], None]) -> None:
        self._engine = engine
        self._tell = tell

    @property
    def ready_at(self) -> float:
        """Seconds since the epoch; 0 until the engine is loaded."""
        return self._engine.ready_at

    @property
    def made_by(self) -> MadeBy:
        """What makes the vectors."""
        return self._engine.made_by

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        """Wait for the engine, tell, and return unit vectors of the first `dim` components."""
        self._engine.wait()
        self._tell()
        return self._engine.embed(token_ids, dim)


@contextlib.contextmanager
def attempt(attempts: Attempts, chunk: Chunk, deaths: int, engine: EngineThread) -> Iterator[Engine]:
    """Record an attempt on a chunk that died `deaths` times before, and yield the engine to make it with.

    A process that dies while its engine loads is no chunk's fault: until then nothing is recorded. An engine that
    breaks is as good as a death.
    """
    begin = partial(attempts.put, chunk, deaths + 1)
    try:
        if engine.ready_at:
            begin()
            yield engine
        else:
            yield LoadingEngine(engine, begin)
    except BrokenEngineError:
        raise
    except BaseException:
        attempts.put(chunk, deaths)
        raise
    attempts.put(chunk, 0)
