"""Copy the vector of an unchanged text from the part that is being replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import Chunk
from pipeline.config import Config
from pipeline.corpus import ChunkReader
from pipeline.dataset import (
    Receipt,
    Store,
    VectorIndex,
    first_entries,
    hashes_in,
    index_pieces,
    index_vectors,
    keys_of,
    read_entries,
    save_prefilled,
)
from pipeline.driver.plan import Plan
from pipeline.engines import Embedded, MadeBy
from pipeline.errors import CorpusError, DamageError, EngineError
from pipeline.recipe import dim_of
from pipeline.schema import content_hashes
from pipeline.worker import Job, Memory, are_rejected, embed_rows, piece_hashes


def reusable_vectors(plan: Plan, store: Store) -> VectorIndex:
    """Index the vectors of parts to be replaced, and of kept parts whose shard is gone."""
    inventory = plan.inventory
    staging = store.staging(inventory.dataset.fingerprint)
    names = inventory.reusable(plan.shards) if plan.chunks else []
    paths = [(staging if name in inventory.staged else store).data_path(name) for name in names]
    return index_vectors(paths, dim_of(inventory.dataset.recipe))


def reusable_pieces(index: VectorIndex, config: Config) -> VectorIndex:
    """Index the passages of the parts of an index, where long texts are split: an edited one has most of them still."""
    return index_pieces(index.paths if config.corpus.on_long == "split" else (), config.dim)


def share_missing(chunks: Sequence[Chunk], job: Job, index: VectorIndex) -> list[float]:
    """Return which share of the texts of each chunk, by their characters, is not among the index' and not among its
    other texts; reads the chunks if there are any."""
    if not len(index.keys):
        return [1.0] * len(chunks)
    shares: list[float] = []
    with ChunkReader() as reader:
        for chunk in chunks:
            texts = reader.read(job.root, job.columns, chunk.spans).text
            lengths = np.array(list(map(len, texts)), np.int64)
            keys, first = np.unique(keys_of(content_hashes(texts)), return_index=True)
            shares.append(float(lengths[first[index.find(keys) < 0]].sum() / max(1, lengths.sum())))
    return shares


def reuse(
    chunks: Iterable[Chunk], job: Job, index: VectorIndex, place: Store, staging: Store
) -> Iterator[Receipt | Chunk]:
    """Publish the chunks that need no engine and yield their receipts; yield the others as chunks.

    Vectors that an older part has for a text of such a chunk, or for a piece of one, are saved in the staging folder.
    """
    pieces = reusable_pieces(index, job.config)
    with ChunkReader() as reader:
        for chunk in chunks:
            try:
                rows = reader.read(job.root, job.columns, chunk.spans)
            except CorpusError:  # the worker meets the same error and reports it
                yield chunk
                continue
            hashes = content_hashes(rows.text)
            found = index.find(np.unique(keys_of(hashes)))
            known = index.take(found[found >= 0], place.volume.writing)
            have = set(known.column("content_hash").to_pylist()) if known is not None else set()
            missing = [text for text, digest in zip(rows.text, hashes, strict=True) if digest not in have]
            if len(pieces.keys) and missing:
                of_text = piece_hashes(missing, job.config)
                wanted = {digest for digests in of_text for digest in digests} - have
                found = pieces.find(np.unique(keys_of(sorted(wanted))))
                if (others := pieces.take(found[found >= 0], place.volume.writing)) is not None:
                    have |= set(others.column("content_hash").to_pylist())
                    known = pa.concat_tables([others] if known is None else [known, others])
                missing = [text for text, digests in zip(missing, of_text, strict=True) if not have.issuperset(digests)]
            if are_rejected(missing, job.config):
                with Memory().claiming(place.root) as claim:
                    receipt = embed_rows(chunk, rows, known, job, _NoEngine(), place, claim)
                yield receipt
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
        raise EngineError(f"reuse: expected every vector at hand, found {len(token_ids)} missing; please report this")


def _hashes(path: Path) -> NDArray[np.bytes_]:
    try:
        entries = read_entries(path)
        return hashes_in(entries)[first_entries(entries)]
    except DamageError:
        return np.empty(0, "S16")
