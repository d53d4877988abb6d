"""The memory of a process: where it has embedded the texts of a run, so that none is embedded twice."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dataset import Keys, VectorIndex, index_part, joined, keys_of, positions

MAX_TEXTS = 1 << 21  # of 20 bytes each
MAX_JOINED = MAX_TEXTS // 32  # as many are forgotten at once at most


class Memory:
    """The texts that the chunks of a process have embedded or are embedding, by run: MAX_TEXTS of them, about 42 MB.

    Above that the texts that were met longest ago are forgotten: they are embedded again when they come again. So are
    texts whose part is damaged or gone, and all texts in another process. Vectors are not kept here: they are read from
    the newest part that has them, about 10 ms for a group of rows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: list[Claim] = []  # of the chunks in flight, in the order in which they claimed
        self._embedded: dict[Hashable, list[VectorIndex]] = {}  # by run; what was met longest ago comes first

    @contextlib.contextmanager
    def claiming(self, run: Hashable) -> Iterator[Claim]:
        """Yield the claim of a chunk of a run, which it has until it ends in whatever way."""
        claim = Claim(self, run)
        try:
            yield claim
        finally:
            with self._lock:
                self._claims = [other for other in self._claims if other is not claim]
            claim.ended.set()

    def divide(self, claim: Claim, keys: Keys) -> list[Claim]:
        """Let a claim own those of these keys that no part and no claim has, in one step; return the claims that have
        some of them."""
        with self._lock:
            _, own = self._find(claim.run, keys)
            earlier = []
            for other in self._claims:
                if other.run == claim.run and (is_taken := positions(other.own, own) >= 0).any():
                    earlier.append(other)
                    own = own[~is_taken]
            claim.own = own
            self._claims.append(claim)
        return earlier

    def find_or_leave(self, claim: Claim, keys: Keys) -> list[tuple[VectorIndex, NDArray[np.int64]]]:
        """Return where the texts of these keys are: in indices, at positions; what is nowhere is left to the claim."""
        with self._lock:
            found, nowhere = self._find(claim.run, keys)
            claim.own = np.union1d(claim.own, nowhere)
        return found

    def add(self, run: Hashable, index: VectorIndex) -> None:
        """Remember the texts of a part; above the bound forget others."""
        with self._lock:
            of_run = self._embedded[run] = [*self._embedded.pop(run, ()), index]
            while len(of_run) > 1 and _are_to_join(*of_run[-2:]):
                of_run[-2:] = [joined([of_run[-1], of_run[-2]])]
            while sum(len(index.keys) for indices in self._embedded.values() for index in indices) > MAX_TEXTS:
                oldest = next(iter(self._embedded))
                del self._embedded[oldest][0]
                if not self._embedded[oldest]:
                    del self._embedded[oldest]

    def _find(self, run: Hashable, keys: Keys) -> tuple[list[tuple[VectorIndex, NDArray[np.int64]]], Keys]:
        """Return where these keys are found, and those that are not."""
        found = []
        for index in reversed(self._embedded.get(run, ())):
            at = index.find(keys)
            found.append((index, at[at >= 0]))
            keys = keys[at < 0]
        return found, keys


class Claim:
    """The texts of one chunk: those that it embeds, and those that it has from chunks that claimed them earlier."""

    def __init__(self, memory: Memory, run: Hashable) -> None:
        self._memory = memory
        self.run = run
        self.own = self._others = np.empty(0, np.uint64)
        self._earlier: list[Claim] = []
        self.ended = threading.Event()

    def claim(self, hashes: Sequence[bytes]) -> NDArray[np.bool_]:
        """Return of each text, given by its content hash, whether it is new: this chunk then embeds it."""
        keys, text = np.unique(keys_of(hashes), return_inverse=True)
        self._earlier = self._memory.divide(self, keys)
        is_own = positions(self.own, keys) >= 0
        self._others = keys[~is_own]
        return is_own[text]

    def recall(self, closed: AbstractContextManager[object]) -> pa.Table | None:
        """Return the passages of the texts that are not new, as VectorIndex.take does; this chunk embeds what it lacks.

        Waits for the chunks in flight that claimed some of them: so embed what is new before. A chunk waits for none
        that claims later, hence no two wait for each other.
        """
        for claim in self._earlier:
            claim.ended.wait()
        found = self._memory.find_or_leave(self, self._others) if len(self._others) else []
        tables = [table for index, at in found if (table := index.take(at, closed)) is not None]
        return pa.concat_tables(tables) if tables else None

    def publish(self, path: Path, table: pa.Table) -> None:
        """Let other chunks know the texts of this one, whose part is at a path."""
        self._memory.add(self.run, index_part(path, table))


def _are_to_join(older: VectorIndex, newer: VectorIndex) -> bool:
    """Whether two neighbours become one: sizes then halve from each to the next, and there are few to search."""
    n_older, n_newer = len(older.keys), len(newer.keys)
    return n_older <= 2 * n_newer and n_older + n_newer <= MAX_JOINED
