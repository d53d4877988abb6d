"""The tally: how many rows of which length a corpus has, and what a few of each length come to in tokens.

Rows are put into bins by their bytes. In each bin a simple random sample is tokenised, and a line through it (tokens
over bytes) is applied to all rows of the bin, as their number and their bytes are known: stratified sampling with a
regression estimator (W. G. Cochran, Sampling Techniques, 3rd ed., 1977, sections 5 and 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Block

N_BINS = 64  # two to each doubling of the bytes
MOST_ROWS, LEAST_ROWS = 128, 24  # that are tokenised of a bin
BIN_BYTES = 256 << 10  # of text that is tokenised of a bin, unless those are too few rows
KEPT_BYTES = 16 << 20  # of rows up to which all of them are: a small file may unpack to thousands of times its size

Floats = NDArray[np.float64]
# Of each text, given with the factor by which it is longer than what is given of it: a row of counts.
Counts = Callable[[Sequence[str], Floats], Floats]


@dataclass(frozen=True, slots=True)
class _Row:
    key: float
    place: int
    size: int  # bytes
    text: str | None  # its beginning
    factor: float  # by which the text is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """What rows come to, by bin: counts = base + slope x bytes."""

    base: Floats  # (bins, counts)
    slope: Floats
    variance: Floats  # (bins, counts), of the mean of the sampled rows about the line

    def of(self, sums: Floats) -> Floats:
        """Return the counts of rows, from their numbers and bytes by bin: (…, bins, 2) becomes (…, counts)."""
        found: Floats = sums[..., 0] @ self.base + sums[..., 1] @ self.slope
        return found


@dataclass(slots=True, kw_only=True)
class Tally:
    """Rows by length, over the places where they were seen."""

    random: np.random.Generator
    keeps_all: bool  # whether every row is tokenised, up to KEPT_BYTES
    clip: int  # characters that are tokenised of a text; the rest is taken to be like them
    sums: list[Floats] = field(default_factory=list)  # by place: (bins, 2), rows and their bytes
    _n_bytes: int = 0  # of the rows so far
    _drawn: list[list[_Row]] = field(default_factory=lambda: [[] for _ in range(N_BINS)])
    _limit: Floats = field(default_factory=lambda: np.full(N_BINS, 2.0))  # keys above it are not among the smallest

    def begin(self) -> None:
        """Begin a place."""
        self.sums.append(np.zeros((N_BINS, 2)))

    def add(self, block: Block) -> None:
        """Count the rows of a block of the place that was begun last; keep some, each with the same chance."""
        bins = np.minimum(2 * np.log2(block.sizes + 1.0), N_BINS - 1).astype(np.int64)
        self.sums[-1][:, 0] += np.bincount(bins, minlength=N_BINS)
        self.sums[-1][:, 1] += np.bincount(bins, block.sizes, minlength=N_BINS)
        keys = self.random.random(len(bins))
        candidates = np.flatnonzero(keys < self._limit[bins])
        candidates = candidates[np.lexsort((keys[candidates], bins[candidates]))]
        of = bins[candidates]
        rank = np.arange(len(of)) - np.searchsorted(of, of)
        chosen = candidates[rank < np.array([self._room(at) for at in range(N_BINS)])[of]]
        for row, text in zip(chosen, block.texts(chosen.tolist()), strict=True):
            factor = max(1.0, len(text or "") / self.clip)
            kept = text if text is None else text[: self.clip]
            self._drawn[bins[row]].append(_Row(keys[row], len(self.sums) - 1, int(block.sizes[row]), kept, factor))
        self._n_bytes += int(block.sizes.sum())
        if self.keeps_all and self._n_bytes > KEPT_BYTES:
            self.keeps_all = False
            self._thin_out(range(N_BINS))
        else:
            self._thin_out(np.unique(bins[chosen]).tolist())

    def lines(self, counts: Counts, n_counts: int, weights: Floats) -> Lines:
        """Return what the sampled rows come to; `weights` tells for each place how many rows one there means."""
        base, slope, variance = (np.zeros((N_BINS, n_counts)) for _ in range(3))
        seen = np.sum(self.sums, axis=0)[:, 0] if self.sums else np.zeros(N_BINS)
        for at, drawn in enumerate(self._drawn):
            if not drawn:
                continue
            y = _counted(drawn, counts, n_counts)
            x = np.array([row.size for row in drawn], float)
            w = weights[[row.place for row in drawn]]
            w = w / w.sum()
            mean_x, mean_y = w @ x, w @ y
            spread = w @ (x - mean_x) ** 2
            slope[at] = (w * (x - mean_x)) @ (y - mean_y) / spread if spread else 0.0
            base[at] = mean_y - slope[at] * mean_x
            if seen[at] > len(drawn):
                rest = y - base[at] - np.outer(x, slope[at])
                variance[at] = (w**2) @ rest**2 * len(drawn) / max(1, len(drawn) - 2) * (1 - len(drawn) / seen[at])
        return Lines(base=base, slope=slope, variance=variance)

    def _thin_out(self, bins: Iterable[int]) -> None:
        """Keep those with the smallest keys of the rows in bins that are full."""
        for at in bins:
            drawn = self._drawn[at]
            if len(drawn) >= self._room(at):
                drawn.sort(key=lambda row: row.key)
                del drawn[self._room(at) :]
                self._limit[at] = drawn[-1].key

    def _room(self, at: int) -> int:
        if self.keeps_all:
            return 1 << 30
        return int(min(MOST_ROWS, max(LEAST_ROWS, BIN_BYTES / min(2 ** (at / 2), self.clip))))


def _counted(rows: Sequence[_Row], counts: Counts, n_counts: int) -> Floats:
    found = np.zeros((len(rows), n_counts))
    has_text = [at for at, row in enumerate(rows) if row.text is not None]
    texts = [row.text for row in rows if row.text is not None]
    if texts:
        found[has_text] = counts(texts, np.array([rows[at].factor for at in has_text]))
    return found
