"""Chunks that are embedded one by one or in threads, with an engine that does what a test says."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.config import load_config
from pipeline.corpus.chunk_reader import ChunkReader
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.driver.plan import make_plan
from pipeline.engines.hashing import HashingEmbedder
from pipeline.engines.made_by import MadeBy
from pipeline.engines.thread import Embedded
from pipeline.errors import EngineError
from pipeline.vectors import to_unit_float16
from pipeline.worker.embed import Failure, Job, embed_or_fail
from pipeline.worker.memory import Memory
from tests.support import REPOSITORY, read_dataset, write_parquet

HASHING = REPOSITORY / "configs/hashing.toml"
ROWS_A_CHUNK = 3


class Engine:
    """Gives the vectors of the hashing engine and keeps what it was asked for; `before` may raise, wait or refuse."""

    ready_at = 1.0
    made_by = MadeBy()

    def __init__(self, before: Callable[[Sequence[Sequence[int]]], dict[int, str]] = lambda token_ids: {}) -> None:
        self._before = before
        self._embedder = HashingEmbedder(load_config(HASHING))
        self.calls: list[int] = []
        self.n_tokens = 0

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        self.calls.append(len(token_ids))
        self.n_tokens += sum(map(len, token_ids))
        refused = self._before(token_ids)
        vectors = to_unit_float16(self._embedder.embed(token_ids), dim)
        vectors[list(refused)] = 0
        return Embedded(vectors=vectors, refused=refused, calls=1)


def refusing(word: str) -> Callable[[Sequence[Sequence[int]]], dict[int, str]]:
    """Refuse the passages that have a word."""
    return lambda token_ids: {at: "too odd" for at, ids in enumerate(token_ids) if zlib.crc32(word.encode()) in ids}


def failing(token_ids: Sequence[Sequence[int]]) -> dict[int, str]:
    """Fail as a whole."""
    raise EngineError("out of memory")


class Corpus:
    """Chunks of three rows of four words, each row given as one letter, and what embeds them.

    `texts` says which letters stand for other texts.
    """

    def __init__(
        self, folder: Path, *chunks: str, texts: Mapping[str, str] | None = None, settings: Sequence[str] = ()
    ) -> None:
        rows = [{"text": (texts or {}).get(letter, f"{letter} is a text")} for letter in "".join(chunks)]
        write_parquet(folder / "in/a.parquet", rows)
        self.store = Store(root=folder / "out")
        config = load_config(HASHING, [f"run.chunk_tokens={4 * ROWS_A_CHUNK}", *settings])
        plan = make_plan(str(folder / "in"), self.store, config)
        self.chunks = plan.chunks
        self.job = Job(root=plan.corpus.root, columns=plan.corpus.columns, config=config)
        self.memory = Memory()

    def embed(self, chunk: int, engine: Engine, memory: Memory | None = None) -> Receipt | Failure:
        with ChunkReader() as reader:
            return embed_or_fail(self.chunks[chunk], self.job, engine, self.store, reader, memory or self.memory)

    def counts(self, chunk: int, engine: Engine) -> tuple[int, int]:
        """Embed a chunk; return its rows and the texts that were embedded for them."""
        made = self.embed(chunk, engine)
        assert isinstance(made, Receipt)
        return made.embedded_rows, made.engine_texts

    @property
    def vectors(self) -> dict[bytes, set[bytes]]:
        """The vectors that the dataset has of each text."""
        found: dict[bytes, set[bytes]] = {}
        table = read_dataset(self.store.root)
        for digest, vector in zip(table.column("content_hash"), table.column("embedding"), strict=True):
            found.setdefault(digest.as_py(), set()).add(np.array(vector.as_py(), np.float16).tobytes())
        return found
