"""The engine thread: one thread owns the engine, whoever needs vectors waits for it in line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.engines import Embedder
from pipeline.errors import VectorError
from pipeline.vectors import finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Finished vectors, shape (n, dim), float16, and what they cost."""

    vectors: NDArray[np.float16]
    calls: int
    seconds: float


class EngineThread:
    """Loads an engine at once and in the background; OpenMP and CUDA both want every call from one thread."""

    def __init__(self, load: Callable[[], Embedder], *, batch_passages: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._batch_passages = batch_passages
        self.ready_at = 0.0  # seconds since the epoch; 0 until the engine is loaded
        self._loading: Future[Embedder] = self._pool.submit(self._load, load)

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        """Return unit vectors of the first `dim` components; raises what loading or embedding raised."""
        embedder = self._loading.result()
        return self._pool.submit(self._embed, embedder, token_ids, dim).result()

    def sleep(self) -> None:
        """Let the engine sleep once it is loaded; raises what loading raised."""
        self._pool.submit(self._loading.result().sleep).result()

    def wake(self) -> None:
        """Wake the engine."""
        self._pool.submit(self._loading.result().wake).result()
        self.ready_at = time.time()

    def close(self, *, wait: bool = True) -> None:
        """End the thread once the call in progress has finished, and wait for that unless told otherwise."""
        self._pool.shutdown(wait, cancel_futures=True)

    def _load(self, load: Callable[[], Embedder]) -> Embedder:
        embedder = load()
        self.ready_at = time.time()
        return embedder

    def _embed(self, embedder: Embedder, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        vectors = np.empty((len(token_ids), dim), np.float16)
        calls, seconds = 0, 0.0
        for at in range(0, len(token_ids), self._batch_passages):
            batch = token_ids[at : at + self._batch_passages]
            began = time.perf_counter()
            full = embedder.embed(batch)
            seconds += time.perf_counter() - began
            calls += 1
            if len(full) != len(batch):
                raise VectorError(f"engine output: expected {len(batch)} vectors, found {len(full)}")
            vectors[at : at + len(batch)] = finish(full, dim)
        return Embedded(vectors=vectors, calls=calls, seconds=seconds)
