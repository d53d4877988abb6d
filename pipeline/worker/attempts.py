"""An attempt on a chunk: marked before it begins and unmarked when it ends, so that a mark that stays is a crash."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pipeline.chunk import Chunk
from pipeline.dataset.marks import Marks
from pipeline.engines.thread import Embedded, Engine, EngineThread
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

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        """Wait for the engine, tell, and return unit vectors of the first `dim` components."""
        self._engine.wait()
        self._tell()
        return self._engine.embed(token_ids, dim)


@contextlib.contextmanager
def attempt(marks: Marks, chunk: Chunk, deaths: int, engine: EngineThread) -> Iterator[Engine]:
    """Mark an attempt on a chunk that died `deaths` times before, and yield the engine to make it with.

    A process that dies while its engine loads is no chunk's fault: until then the mark waits. An engine that breaks
    is as good as a death.
    """
    mark = partial(marks.put, chunk, deaths + 1)
    try:
        if engine.ready_at:
            mark()
            yield engine
        else:
            yield LoadingEngine(engine, mark)
    except BrokenEngineError:
        raise
    except BaseException:
        marks.put(chunk, deaths)
        raise
    marks.put(chunk, 0)
