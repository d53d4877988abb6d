"""An index of vectors: where the parts of a dataset have the vectors of a text, by its content hash."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain, compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.dataset.parts import open_part
from pipeline.errors import DamageError
from pipeline.schema import EMBEDDING, PASSAGE, TEXT, content_hashes

Keys = NDArray[np.uint64]  # of texts: see keys_of
COLUMNS = ("content_hash", *PASSAGE.names, EMBEDDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndex:
    """The vectors of some parts by text. Every array has shape (n_texts,), in the order of the keys."""

    paths: tuple[Path, ...]
    keys: Keys
    path: NDArray[np.int32]  # index into paths
    entry: NDArray[np.int32]  # of the text's first passage in the file
    n_passages: NDArray[np.int32]
    of_pieces: bool = False  # whether each passage of the parts is a text here, by itself

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return for each of `keys` its index, -1 where it is not here."""
        return positions(self.keys, keys)

    def take(self, indices: NDArray[np.int64], closed: AbstractContextManager[object]) -> pa.Table | None:
        """Return the passages of the texts at these indices, with their vectors; None when there is none.

        A file is open in the context `closed` alone. What a part does not have, or no longer, is left out.
        """
        tables = []
        for path in np.unique(self.path[indices]):
            here = indices[self.path[indices] == path]
            here = here[np.argsort(self.entry[here])]
            counts = self.n_passages[here]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            with contextlib.suppress(DamageError), closed:
                entries = np.repeat(self.entry[here], counts) + within
                table = (_pieces if self.of_pieces else _entries)(self.paths[path], entries)
                is_right = _keys_in(table) == np.repeat(self.keys[here], counts)
                if (is_right & (table.column("passage").to_numpy() == within)).all():
                    tables.append(table)
        return pa.concat_tables(tables) if tables else None


EMPTY = VectorIndex(
    paths=(),
    keys=np.empty(0, np.uint64),
    path=np.empty(0, np.int32),
    entry=np.empty(0, np.int32),
    n_passages=np.empty(0, np.int32),
)


def positions(rising: Keys, keys: Keys) -> NDArray[np.int64]:
    """Return for each of `keys` its position among those that are `rising`, -1 where it is not there."""
    if not len(rising):
        return np.full(len(keys), -1)
    at = np.minimum(np.searchsorted(rising, keys), len(rising) - 1)
    found: NDArray[np.int64] = np.where(rising[at] == keys, at, -1)
    return found


def keys_of(hashes: Sequence[bytes]) -> Keys:
    """Return the first half of each content hash; the entry that is found by it has the whole one."""
    return np.frombuffer(b"".join(hashes), np.uint64)[::2]


def index_vectors(paths: Sequence[Path], dim: int) -> VectorIndex:
    """Index the texts of these parts, 20 bytes a text; one that is damaged or of another width is left out."""
    found = []
    for path in paths:
        with contextlib.suppress(DamageError):
            found.append(index_part(path, read_entries(path, dim)))
    return joined(found)


def index_pieces(paths: Sequence[Path], dim: int) -> VectorIndex:
    """Index the passages of these parts, each as a text of its own; of parts without their texts there are none."""
    found = []
    for path in paths:
        with contextlib.suppress(DamageError), open_part(path, dim, has_text=True) as file:
            hashes: list[bytes] = []
            for batch in file.iter_batches(columns=[TEXT.name], use_threads=False):
                hashes += content_hashes(batch.column(0).to_pylist())
            keys, entry = np.unique(keys_of(hashes), return_index=True)
            found.append(
                VectorIndex(
                    paths=(path,),
                    keys=keys,
                    path=np.zeros(len(keys), np.int32),
                    entry=entry.astype(np.int32),
                    n_passages=np.ones(len(keys), np.int32),
                )
            )
    return replace(joined(found), of_pieces=True)


def index_part(path: Path, table: pa.Table) -> VectorIndex:
    """Index the texts of one part, given with its columns content_hash and passage."""
    first = first_entries(table)
    counts = np.diff(first, append=len(table))
    keys, at = np.unique(_keys_in(table)[first], return_index=True)
    return VectorIndex(
        paths=(path,),
        keys=keys,
        path=np.zeros(len(keys), np.int32),
        entry=first[at].astype(np.int32),
        n_passages=counts[at].astype(np.int32),
    )


def joined(indices: Sequence[VectorIndex]) -> VectorIndex:
    """Return one index of the texts of all; a text that several have is where the first of them has it."""
    indices = [EMPTY, *indices]
    starts = np.cumsum([0, *(len(index.paths) for index in indices)], dtype=np.int32)
    keys = np.concatenate([index.keys for index in indices])
    at = np.argsort(keys, kind="stable")
    keys = keys[at]
    is_first = np.diff(keys, prepend=~keys[:1]) != 0
    keys, at = keys[is_first], at[is_first]
    path = np.concatenate([index.path + start for index, start in zip(indices, starts[:-1], strict=True)])[at]
    is_used = np.zeros(starts[-1], np.bool_)
    is_used[path] = True
    return VectorIndex(
        paths=tuple(compress(chain.from_iterable(index.paths for index in indices), is_used)),
        keys=keys,
        path=(np.cumsum(is_used, dtype=np.int32) - 1)[path],
        entry=np.concatenate([index.entry for index in indices])[at],
        n_passages=np.concatenate([index.n_passages for index in indices])[at],
    )


def read_entries(path: Path, dim: int | None = None) -> pa.Table:
    """Return the columns content_hash and passage of a part; raises DamageError as `open_part` does."""
    with open_part(path, dim) as file:
        return file.read(["content_hash", "passage"], use_threads=False)


def first_entries(table: pa.Table) -> NDArray[np.int64]:
    """Return the first entry of each row of a part."""
    return np.flatnonzero(table.column("passage").to_numpy() == 0)


def hashes_in(table: pa.Table) -> NDArray[np.bytes_]:
    """Return the content hash of each entry of a part, 16 bytes each."""
    digests = table.column("content_hash").combine_chunks()
    if not len(digests):
        return np.empty(0, "S16")
    return np.frombuffer(digests.buffers()[1], "S16", count=len(digests), offset=16 * digests.offset)


def _keys_in(table: pa.Table) -> Keys:
    return hashes_in(table).view(np.uint64)[::2]


def _pieces(path: Path, entries: NDArray[np.int64]) -> pa.Table:
    """Return some entries of a part as `_entries` does, each as if its passage were a text of its own."""
    table = _entries(path, entries, (*COLUMNS, TEXT.name))
    texts, zeros = table.column(TEXT.name), pa.array(np.zeros(len(table), np.int32))
    of_texts = {
        "content_hash": pa.array(content_hashes(texts.to_pylist()), pa.binary(16)),
        "passage": zeros,
        "char_start": zeros,
        "char_end": pc.utf8_length(texts),
    }
    return pa.table({name: of_texts.get(name, table.column(name)) for name in COLUMNS})


def _entries(path: Path, entries: NDArray[np.int64], columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Return some entries of a part, given in rising order; only the row groups that hold them are read."""
    with open_part(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        of_entry = np.searchsorted(ends, entries, side="right")
        groups, position = np.unique(of_entry, return_inverse=True)
        table = file.read_row_groups(groups.tolist(), list(columns), use_threads=False)
    starts = np.cumsum([0, *(sizes[group] for group in groups)])[:-1]
    within = entries - (ends - sizes)[of_entry]
    return table.take(starts[position] + within)
