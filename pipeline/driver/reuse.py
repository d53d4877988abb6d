"""Copy the vector of an unchanged text from the part that is being replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import Chunk
from pipeline.corpus import ChunkReader
from pipeline.dataset import Receipt, Store, open_part, save_prefilled
from pipeline.driver.plan import Plan
from pipeline.engines import Embedded, MadeBy
from pipeline.errors import CorpusError, DamageError, EngineError
from pipeline.schema import EMBEDDING, PASSAGE, dim_of
from pipeline.worker import Job, are_rejected, content_hashes, embed_rows

COLUMNS = ("content_hash", *PASSAGE.names, EMBEDDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndex:
    """The vectors of some parts by content hash. Every array has shape (n_texts,), in the order of the hashes."""

    paths: tuple[Path, ...]
    hashes: NDArray[np.bytes_]  # 16 bytes each
    path: NDArray[np.int32]  # index into paths
    entry: NDArray[np.int64]  # of the text's first passage in the file
    n_passages: NDArray[np.int64]

    def find(self, hashes: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Return the index of each of `hashes` that is here, in no particular order; fewer than were given."""
        at = np.searchsorted(self.hashes, hashes)
        inside = at[at < len(self.hashes)]
        found: NDArray[np.int64] = inside[self.hashes[inside] == hashes[at < len(self.hashes)]]
        return found

    def take(self, indices: NDArray[np.int64]) -> pa.Table | None:
        """Return the passages of the texts at these indices, with their vectors; None when there is none."""
        tables = []
        for path in np.unique(self.path[indices]):
            here = indices[self.path[indices] == path]
            counts = self.n_passages[here]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            entries = np.sort(np.repeat(self.entry[here], counts) + within)
            with contextlib.suppress(DamageError):  # a damaged part: its texts are embedded again
                tables.append(_entries(self.paths[path], entries))
        return pa.concat_tables(tables) if tables else None


def index_vectors(paths: Sequence[Path], dim: int) -> VectorIndex:
    """Index the texts of these parts, in about 40 bytes a text; one that is damaged or of another width is left out."""
    hashes, path_of, entries, counts = [], [], [], []
    for index, path in enumerate(paths):
        try:
            found, n_entries = _first_entries(path, dim)
        except DamageError:
            continue
        hashes.append(found[0])
        entries.append(found[1])
        counts.append(np.diff(found[1], append=n_entries))
        path_of.append(np.full(len(found[1]), index, np.int32))
    if not hashes:
        return VectorIndex(
            paths=(),
            hashes=np.empty(0, "S16"),
            path=np.empty(0, np.int32),
            entry=np.empty(0, np.int64),
            n_passages=np.empty(0, np.int64),
        )
    distinct, first = np.unique(np.concatenate(hashes), return_index=True)
    return VectorIndex(
        paths=tuple(paths),
        hashes=distinct,
        path=np.concatenate(path_of)[first],
        entry=np.concatenate(entries)[first],
        n_passages=np.concatenate(counts)[first],
    )


def reusable_vectors(plan: Plan, store: Store) -> VectorIndex:
    """Index the vectors of parts to be replaced, and of kept parts whose shard is gone."""
    inventory = plan.inventory
    staging = store.staging(inventory.dataset.fingerprint)
    names = inventory.reusable(plan.shards) if plan.chunks else []
    paths = [(staging if name in inventory.staged else store).data_path(name) for name in names]
    return index_vectors(paths, dim_of(inventory.dataset.recipe))


def share_missing(chunks: Sequence[Chunk], job: Job, index: VectorIndex) -> list[float]:
    """Return which share of the texts of each chunk is not among the index'; reads the chunks if there are any."""
    if not len(index.hashes):
        return [1.0] * len(chunks)
    shares = []
    with ChunkReader() as reader:
        for chunk in chunks:
            distinct = np.unique(np.array(content_hashes(reader.read(job.root, job.columns, chunk.spans).text), "S16"))
            shares.append(1.0 - len(index.find(distinct)) / max(1, len(distinct)))
    return shares


def reuse(
    chunks: Iterable[Chunk], job: Job, index: VectorIndex, place: Store, staging: Store
) -> Iterator[Receipt | Chunk]:
    """Publish the chunks that need no engine and yield their receipts; yield the others as chunks.

    Vectors that an older part has for a text of such a chunk are saved in the staging folder.
    """
    with ChunkReader() as reader:
        for chunk in chunks:
            try:
                rows = reader.read(job.root, job.columns, chunk.spans)
            except CorpusError:  # the worker meets the same error and reports it
                yield chunk
                continue
            hashes = content_hashes(rows.text)
            found = index.find(np.unique(np.array(hashes, "S16")))
            known = index.take(found)
            have = set(known.column("content_hash").to_pylist()) if known is not None else set()
            missing = [text for text, digest in zip(rows.text, hashes, strict=True) if digest not in have]
            if are_rejected(missing, job.config):
                yield embed_rows(chunk, rows, known, job, _NoEngine(), place)
            elif known is not None:
                save_prefilled(staging, chunk.id, known)
                yield replace(chunk, ready=chunk.id)
            else:
                yield chunk


def count_removed(old: Sequence[Path], new: Sequence[Path]) -> int:
    """Return how many rows of the old parts have no row of the same text in the new ones, each counted once."""
    before, after = (np.concatenate([np.empty(0, "S16"), *map(_hashes, paths)]) for paths in (old, new))
    distinct, counts = np.unique(before, return_counts=True)
    still, n_still = np.unique(after, return_counts=True)
    at = np.searchsorted(distinct, still)
    inside = at < len(distinct)
    inside[inside] = distinct[at[inside]] == still[inside]
    counts[at[inside]] -= np.minimum(n_still[inside], counts[at[inside]])
    return int(counts.sum())


class _NoEngine:
    ready_at = 0.0
    made_by = MadeBy()

    def embed(self, token_ids: Sequence[Sequence[int]], dim: int) -> Embedded:
        if token_ids:
            raise EngineError(
                f"reuse: expected every vector at hand, found {len(token_ids)} missing; please report this"
            )
        return Embedded(vectors=np.empty((0, dim), np.float16))


def _hashes(path: Path) -> NDArray[np.bytes_]:
    try:
        return _first_entries(path)[0][0]
    except DamageError:
        return np.empty(0, "S16")


def _first_entries(path: Path, dim: int | None = None) -> tuple[tuple[NDArray[np.bytes_], NDArray[np.int64]], int]:
    """Return of each row its content hash and its first entry, and the number of entries."""
    with open_part(path, dim) as file:
        table = file.read(["content_hash", "passage"], use_threads=False)
    first = np.flatnonzero(table.column("passage").to_numpy() == 0)
    digests = table.column("content_hash").combine_chunks()
    flat = np.frombuffer(digests.buffers()[1], "S16", count=len(digests)) if len(digests) else np.empty(0, "S16")
    return (flat[first], first), len(table)


def _entries(path: Path, entries: NDArray[np.int64]) -> pa.Table:
    """Return some entries of a part, given in rising order; only the row groups that hold them are read."""
    with open_part(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        of_entry = np.searchsorted(ends, entries, side="right")
        groups, position = np.unique(of_entry, return_inverse=True)
        table = file.read_row_groups(groups.tolist(), list(COLUMNS), use_threads=False)
    starts = np.cumsum([0, *(sizes[group] for group in groups)])[:-1]
    within = entries - (ends - sizes)[of_entry]
    return table.take(starts[position] + within)
