"""The service: what one container with an engine does, wherever that container runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline import lines
from pipeline.checkpoint import prepare
from pipeline.config import Config
from pipeline.engine import EngineThread
from pipeline.engines import make_embedder
from pipeline.errors import CorpusError, EngineError, RecipeError, UsageError
from pipeline.manifest import Receipt
from pipeline.plan import Chunk
from pipeline.store import Store
from pipeline.worker import Failure, Job, embed_chunk, embed_texts

WAKE_TEXT = "The engine says the same before and after it sleeps."
LEAST_COSINE_AWAKE = 0.999


class Service:
    """One engine, which starts to load at once, for chunks and for lists of texts."""

    def __init__(
        self, config: Config, outputs: Path, *, commit: Callable[[], None], refresh_corpus: Callable[[], None]
    ) -> None:
        config = prepare(config)
        self._config = config
        self._outputs = outputs
        self._commit = commit
        self._refresh_corpus = refresh_corpus
        self._writing = threading.Lock()  # one for all outputs: they share a volume
        self._engine = EngineThread(partial(make_embedder, config), batch_passages=config.engine.batch_passages)
        self._before_sleep: NDArray[np.float16] | None = None

    def sleep(self) -> None:
        """Embed once, so that everything is loaded that ever will be, and let the engine sleep."""
        self._before_sleep = self._embed([WAKE_TEXT])
        self._engine.sleep()

    def wake(self) -> None:
        """Wake the engine, if it sleeps; raises EngineError when it then embeds otherwise than before it slept."""
        if self._before_sleep is None:
            return
        self._engine.wake()
        before, after = (vectors.astype(np.float32)[0] for vectors in (self._before_sleep, self._embed([WAKE_TEXT])))
        cosine = float(before @ after / (np.linalg.norm(before) * np.linalg.norm(after)))
        if cosine < LEAST_COSINE_AWAKE:
            raise EngineError(
                f"engine: expected the vector of before the snapshot after it, found a cosine of {cosine:.4f} to it; "
                "deploy again, or set modal.snapshot to false"
            )

    def close(self) -> None:
        """Let the call in progress finish."""
        self._engine.close()

    def embed(self, sentences: Sequence[str]) -> list[list[float]]:
        """Return for each text the very vector that a dataset of this config has for it."""
        if isinstance(sentences, str) or not all(isinstance(text, str) for text in sentences):
            raise UsageError("embed: expected a list of strings")
        vectors: list[list[float]] = self._embed(sentences).tolist()
        return vectors

    def embed_with_metadata(self, sentences: Sequence[str]) -> list[dict[str, Any]]:
        """Return for each text an object with itself, its vector and the vector's dimension."""
        return [
            {"text": text, "embedding": vector, "dimension": len(vector)}
            for text, vector in zip(sentences, self.embed(sentences), strict=True)
        ]

    def embed_chunk(self, chunk: Mapping[str, Any], job: Mapping[str, Any], output: str) -> dict[str, Any]:
        """Embed a chunk into an output; takes and returns what `pack` makes of Chunk, Job and Receipt or Failure.

        A file that is not as the run found it is looked at once more, because a container may have an old view of
        it. Raises RecipeError when the run asks for another model than this service has loaded.
        """
        asked = _unpack_job(job)
        if (asked.config.model, asked.config.engine.kind) != (self._config.model, self._config.engine.kind):
            raise RecipeError(
                f"service: expected a run with {self._config.model.name} as its config had it when it was deployed, "
                f"found one with {asked.config.model.name} or other settings of it; deploy again"
            )
        store = Store(root=self._outputs / output, commit=self._commit, writing=self._writing)
        made = partial(embed_chunk, msgspec.convert(chunk, Chunk), asked, self._engine, store)
        try:
            try:
                return pack(made())
            except CorpusError:
                lines.release()
                self._refresh_corpus()
                return pack(made())
        except (CorpusError, EngineError) as error:
            return pack(Failure(chunk=chunk["id"], source=chunk["shard"]["source"], error=str(error)))

    def _embed(self, sentences: Sequence[str]) -> NDArray[np.float16]:
        return embed_texts(sentences, self._config, self._engine)


def pack(record: Chunk | Job | Receipt | Failure) -> dict[str, Any]:
    """Return a record as plain values, a few hundred bytes or, for a job, a few thousand."""
    packed: dict[str, Any] = msgspec.to_builtins(record, enc_hook=str)
    return packed


def unpack_outcome(packed: Mapping[str, Any]) -> Receipt | Failure:
    """Return what `embed_chunk` reported."""
    if packed.get("kind") == "receipt":
        return msgspec.convert(packed, Receipt)
    return msgspec.convert(packed, Failure)


def _unpack_job(packed: Mapping[str, Any]) -> Job:
    return msgspec.convert(packed, Job, dec_hook=lambda kind, value: kind(value))
