"""The engine thread: one thread owns the engine, and every caller waits for its turn.

A canary, a few texts whose vectors must stay, finds an engine that goes wrong: a wrong vector looks like any other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.engines.embedder import Closer, Embedder, Sleeper, make_embedder
from pipeline.engines.made_by import MadeBy, versions_for
from pipeline.errors import BrokenEngineError, EngineError, PipelineError
from pipeline.model import make_tokenizer
from pipeline.vectors import to_unit_batch

TEXTS = (
    "The canary fell silent long before the miners noticed anything.",
    "Interest is paid on the first working day of each month.",
    "Wash the rice until the water runs clear, then let it rest.",
)
MIN_COSINE = 0.99  # to the first vector; bfloat16 and another batch move it by about 1e-3, another text by tenths
MAX_REFUSED = 64  # passages, one after the other and each alone, before the engine is at fault and not they


def canary_ids(config: Config) -> list[list[int]]:
    """Return the token ids of the canary's texts for the configured model."""
    tokenizer = make_tokenizer(config, max_tokens=config.model.max_tokens)
    return [windows[0].ids for windows in tokenizer.windows(TEXTS)]


class Canary:
    """Vectors of an engine that has just been loaded, to compare its later ones with.

    Each text is embedded alone, so that the engine does the same arithmetic every time. Raises BrokenEngineError
    when the engine fails at once or gives different texts the same vector.
    """

    def __init__(self, embedder: Embedder, token_ids: Sequence[Sequence[int]]) -> None:
        self._embedder = embedder
        self._first = [(ids, self._embed(ids)) for ids in token_ids]
        self._turns = itertools.cycle(self._first)
        if all(np.array_equal(vector, self._first[0][1]) for _, vector in self._first):
            raise BrokenEngineError(f"canary: expected {len(token_ids)} texts to differ, found one vector for all")

    def check(self) -> None:
        """Embed the text whose turn it is; raises BrokenEngineError when that fails or its vector has moved."""
        ids, first = next(self._turns)
        now = self._embed(ids)
        cosine = float(np.sum(now * first)) if now.shape == first.shape else 0.0
        if not cosine >= MIN_COSINE:
            raise BrokenEngineError(
                f"canary: expected the vector of a fixed text to stay (cosine of at least {MIN_COSINE}), found "
                f"{cosine:.3f}: the engine has gone wrong; nothing of this chunk was stored, run again"
            )

    def _embed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        try:
            full = self._embedder.embed([ids])
            return to_unit_batch(full, [ids], full.shape[-1]).astype(np.float32)
        except Exception as error:
            raise BrokenEngineError(
                f"canary: expected a vector for a fixed text, found: {error}: the engine has gone wrong; run again"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Finished vectors, shape (n, dim), float16, and what they cost; those of refused passages are zero."""

    vectors: NDArray[np.float16]
    refused: Mapping[int, str] = field(default_factory=dict)  # index of a passage -> what the engine said of it
    calls: int = 0
    seconds: float = 0.0


class Engine(Protocol):
    """What a chunk needs of an engine."""

    @property
    def ready_at(self) -> float:
        """Seconds since the epoch; 0 until the engine is loaded."""
        ...

    @property
    def made_by(self) -> MadeBy:
        """What makes the vectors."""
        ...

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        """Return unit vectors of the first `dim` components."""
        ...


class EngineThread:
    """Loads an engine at once and in the background; OpenMP and CUDA both want every call from one thread."""

    def __init__(self, config: Config, made_by: MadeBy | None = None) -> None:
        self._config = config
        self.move_to(made_by or MadeBy())
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._n_refused = 0  # passages since the last that was embedded
        self._broken: BrokenEngineError | None = None
        self.n_under_way = 0  # tokens that the engine is through with, of the call in progress
        self.ready_at = 0.0  # seconds since the epoch; 0 until the engine is loaded
        self._loading: Future[tuple[Embedder, Canary]] = self._pool.submit(self._load)

    def move_to(self, made_by: MadeBy) -> None:
        """Set what makes the vectors; the versions are those of this process."""
        self.made_by = replace(made_by, versions=versions_for(self._config))

    def wait(self) -> None:
        """Wait until the engine is loaded; raises BrokenEngineError when it does not load."""
        try:
            self._loading.result()
        except EngineError as error:
            raise BrokenEngineError(str(error)) from error
        except PipelineError:
            raise
        except Exception as error:
            raise BrokenEngineError(f"engine: did not load: {type(error).__name__}: {error}") from error

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int, *, checked: bool = True) -> Embedded:
        """Return unit vectors of the first `dim` components.

        A passage on which the engine fails is refused, and all others are embedded. Raises BrokenEngineError when it is
        the engine that fails: it does not load, or no longer gives its canary the first vectors, which is found out
        after every failure and, if `checked`, at the end.
        """
        self.wait()
        return self._pool.submit(self._embed, token_ids, dim, checked).result()

    def sleep(self) -> None:
        """Let the engine sleep once it is loaded, if it can; raises what loading raised."""
        embedder, _ = self._loading.result()
        if isinstance(embedder, Sleeper):
            self._pool.submit(embedder.sleep).result()

    def wake(self) -> None:
        """Wake the engine; raises BrokenEngineError when it is not what it was."""
        embedder, canary = self._loading.result()
        if isinstance(embedder, Sleeper):
            self._pool.submit(embedder.wake).result()
        self._pool.submit(canary.check).result()
        self.ready_at = time.time()

    def close(self, *, wait: bool = True) -> None:
        """End the thread once the call in progress has finished, and wait for that if `wait`."""
        self._pool.shutdown(wait, cancel_futures=True)

    def discard(self) -> None:
        """End the thread and let go of the engine's memory, so that another can be loaded in this process."""
        if self._loading.done() and not self._loading.cancelled() and self._loading.exception() is None:
            embedder, _ = self._loading.result()
            if isinstance(embedder, Closer):
                self._pool.submit(embedder.close).result()
        self.close()

    def _load(self) -> tuple[Embedder, Canary]:
        embedder = make_embedder(self._config)
        canary = Canary(embedder, canary_ids(self._config))
        self.ready_at = time.time()
        return embedder, canary

    def _embed(self, token_ids: Sequence[Sequence[int]], dim: int, checked: bool) -> Embedded:
        if self._broken is not None:
            raise self._broken
        embedder, canary = self._loading.result()
        try:
            embedded = self._bisect(embedder, canary, token_ids, dim)
            if not (checked and token_ids):
                return embedded
            began = time.perf_counter()
            canary.check()
            return replace(embedded, seconds=embedded.seconds + time.perf_counter() - began)
        except BrokenEngineError as error:
            self._broken = error
            raise

    def _bisect(self, embedder: Embedder, canary: Canary, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        """Embed in batches; one that fails is halved until the failing passage is alone.

        For k such passages among n that takes O(k log n) calls beyond those that would have been made anyway.
        """
        vectors = np.zeros((len(token_ids), dim), np.float16)
        refused: dict[int, str] = {}
        calls, seconds = 0, 0.0
        size = self._config.engine.batch_passages
        waiting = [(at, min(at + size, len(token_ids))) for at in range(0, len(token_ids), size)][::-1]
        while waiting:
            start, stop = waiting.pop()
            batch = token_ids[start:stop]
            began = time.perf_counter()
            try:
                vectors[start:stop] = to_unit_batch(embedder.embed(batch), batch, dim)
                self._n_refused = 0
            except BrokenEngineError:
                raise
            except Exception as error:  # noqa: BLE001  whatever an engine raises, it is the rows or the engine
                canary.check()
                if stop - start > 1:
                    middle = (start + stop) // 2
                    waiting += [(middle, stop), (start, middle)]
                else:
                    refused[start] = str(error) or type(error).__name__
                    self._refuse(error)
            seconds += time.perf_counter() - began
            calls += 1
            self.n_under_way += sum(map(len, batch))
        self.n_under_way = 0
        return Embedded(vectors=vectors, refused=refused, calls=calls, seconds=seconds)

    def _refuse(self, error: Exception) -> None:
        self._n_refused += 1
        if self._n_refused > MAX_REFUSED:
            raise BrokenEngineError(
                f"engine: expected it to fail on few rows, found {self._n_refused} in a row, the last with: {error}"
            ) from error
