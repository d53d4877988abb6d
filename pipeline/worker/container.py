"""The service: what one container with an engine does, wherever that container runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pipeline.chunk import Chunk
from pipeline.config import Config
from pipeline.corpus import ChunkReader
from pipeline.dataset import Receipt, Store, Volume, check_layout, deaths_of
from pipeline.engines import EngineThread, MadeBy
from pipeline.errors import BrokenEngineError, CorpusError, EngineError, RecipeError, UsageError
from pipeline.model import pin_and_check
from pipeline.worker.attempts import attempt
from pipeline.worker.embed import Failure, Job, embed_chunk, embed_texts, failure, place_of
from pipeline.worker.memory import Memory

ID = re.compile(r"[0-9a-f]{16}")  # of a chunk


class Service:
    """One engine, which starts to load at once, for chunks and for lists of texts.

    `reload_corpus` shows what others have changed in the inputs since; no file of them is open meanwhile.
    """

    def __init__(
        self,
        config: Config,
        outputs: Path,
        volume: Volume,
        *,
        reload_corpus: Callable[[], None] = lambda: None,
        made_by: MadeBy | None = None,
    ) -> None:
        config = pin_and_check(config)
        self._reload_corpus = reload_corpus
        self._config = config
        self._outputs = outputs
        self._volume = volume
        self._engine = EngineThread(config, made_by)
        self._reader = ChunkReader()
        self._memory = Memory()
        self._sleeps = False

    @property
    def n_under_way(self) -> int:
        """Tokens that the engine is through with, of the call in progress."""
        return self._engine.n_under_way

    def sleep(self) -> None:
        """Embed once, so that everything is loaded that ever will be, and let the engine sleep."""
        self.embed(["warm up"])
        self._engine.sleep()
        self._sleeps = True

    def wake(self) -> None:
        """Wake the engine, if it sleeps; raises EngineError when it then embeds otherwise than before it slept."""
        if not self._sleeps:
            return
        try:
            self._engine.wake()
        except BrokenEngineError as error:
            raise EngineError(f"{error}; after a snapshot: deploy again, or set modal.snapshot to false") from error
        self._sleeps = False

    def move_to(self, made_by: MadeBy) -> None:
        """Make the vectors of later chunks known as those of another container, which has woken from a snapshot."""
        self._engine.move_to(made_by)

    def wait(self) -> float:
        """Wait until the engine is loaded and return when it was, in seconds since the epoch; raises BrokenEngineError
        when it does not load."""
        self._engine.wait()
        return self._engine.ready_at

    def close(self) -> None:
        """Let the call in progress finish."""
        self._engine.close()

    def discard(self) -> None:
        """Let go of the engine and of its memory."""
        self._engine.discard()

    def embed(self, sentences: Sequence[str]) -> list[list[float]]:
        """Return for each text the very vector that a dataset of this config has for it."""
        if isinstance(sentences, str) or not all(isinstance(text, str) for text in sentences):
            raise UsageError("embed: expected a list of strings")
        vectors: list[list[float]] = embed_texts(sentences, self._config, self._engine).tolist()
        return vectors

    def embed_with_metadata(self, sentences: Sequence[str]) -> list[dict[str, Any]]:
        """Return for each text an object with itself, its vector and the vector's dimension."""
        return [
            {"text": text, "embedding": vector, "dimension": len(vector)}
            for text, vector in zip(sentences, self.embed(sentences), strict=True)
        ]

    def embed_chunk(
        self, chunk: Mapping[str, Any], job: Mapping[str, Any], output: str, deaths: int = 0
    ) -> dict[str, Any]:
        """Embed a chunk into an output; takes and returns what `pack` makes of Chunk, Job and Receipt or Failure.

        A chunk that died more often than the run knows (`deaths`) is not tried again: the answer says so. A file that
        is not as the run found it is read once more after a reload: a container may have an old view of it.
        Raises RecipeError when the run asks for another model than this service has loaded, UsageError for what would
        write outside of the volume, and BrokenEngineError.
        """
        asked = _unpack_job(job)
        if (asked.config.model, asked.config.engine.kind) != (self._config.model, self._config.engine.kind):
            raise RecipeError(
                f"service: expected a run with {self._config.model.name} as its config had it when it was deployed, "
                f"found one with {asked.config.model.name} or other settings of it; deploy again"
            )
        store = Store(root=output_below(self._outputs, output), volume=self._volume)
        wanted, attempts = msgspec.convert(chunk, Chunk), self._volume.attempts(store.root)
        for name in (wanted.id, wanted.ready or wanted.id):
            if not ID.fullmatch(name):
                raise UsageError(f"embed_chunk: expected a chunk with an id of 16 hex digits, found {name!r}")
        if (found := deaths_of(wanted, attempts.read())) > deaths:
            why = f"its container died, {found} times by now"
            return pack(Failure(chunk=wanted.id, source=wanted.source, error=why, deaths=found))
        if place_of(asked, store).data_path(wanted.part_name).exists():
            store.reload()  # a container that has been warm for long may see a part that is gone
        with attempt(attempts, wanted, deaths, self._engine) as engine:
            made = partial(embed_chunk, wanted, asked, engine, store, self._reader, self._memory)
            try:
                try:
                    return pack(made())
                except CorpusError:
                    with self._reader.closed():
                        self._reload_corpus()
                    if wanted.ready:
                        store.reload()  # the saved vectors may be what is not as the run found it
                    return pack(made())
            except BrokenEngineError:
                raise
            except (CorpusError, EngineError) as error:
                return pack(failure(wanted, error))


def output_below(outputs: Path, name: str) -> Path:
    """Return the path of an output of a volume; raises UsageError for one outside of it, or with a link in it."""
    path, mount = outputs / name, Path(os.path.realpath(outputs))
    found = Path(os.path.realpath(path))
    if found == mount or not found.is_relative_to(mount):
        raise UsageError(f"embed_chunk: expected an output below the volume, found {name!r}, which is outside of it")
    check_layout(path, UsageError)
    return path


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
