"""Measuring: how many rows, tokens and passages an input has, from a sample of its rows or from all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.chunk import Density, Shard
from pipeline.config import Config
from pipeline.corpus import Corpus
from pipeline.driver.draw import Visit, draw, is_counted
from pipeline.driver.tally import Floats, Lines, Tally
from pipeline.worker import passages_of

COUNTS = ("tokens", "passages", "truncated", "lost", "text_bytes")
BATCH_TEXTS = 256
LEAST_CLIP, CLIP = 8192, 32  # characters that are tokenised of a text: so many, or so many for each token of a passage
QUANTILE = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a corpus comes to, estimated; of a small one counted."""

    density: Density
    rows: float
    tokens: float
    margin: float  # half of the 95 % interval of the tokens
    passages: float
    truncated: float  # passages
    lost_tokens: float  # of those
    text_bytes: float
    beginnings: tuple[str, ...] = ()  # packed shards of which the beginning alone was looked at


NOTHING = Measured(
    density=Density(tokens_per_row=1.0, tokens_per_byte=0.25),
    rows=0.0,
    tokens=0.0,
    margin=0.0,
    passages=0.0,
    truncated=0.0,
    lost_tokens=0.0,
    text_bytes=0.0,
)


def measure(
    corpus: Corpus, shards: Sequence[Shard], config: Config, bad: dict[str, str] | None = None, *, seed: int = 0
) -> Measured:
    """Look at random places all over some shards and tokenise some of their rows; at all where those are few.

    Shards that cannot be read go into `bad` where that is given; else CorpusError is raised where it shows in the first
    rows. Where there is nothing to measure, a token is taken for a row, and for four bytes.
    """
    if not shards:
        return NOTHING
    clip = max(LEAST_CLIP, CLIP * config.model.max_tokens)
    tally = Tally(random=np.random.default_rng(seed), keeps_all=is_counted(shards), clip=clip)
    visits = draw(corpus, shards, tally, bad)
    if not visits:
        return NOTHING
    weights = np.array([visit.weight for visit in visits])
    lines = tally.lines(_Counter(config), len(COUNTS), weights)
    by_place = np.array(tally.sums)  # (places, bins, 2)
    sums = np.einsum("p,pbk->bk", weights, by_place)
    counts: dict[str, float] = dict(zip(COUNTS, np.maximum(lines.of(sums), 0.0).tolist(), strict=True))
    rows = float(sums[:, 0].sum())
    if not counts["tokens"]:
        return NOTHING
    variance = float(sums[:, 0] ** 2 @ lines.variance[:, 0]) + _between(visits, lines.of(by_place)[:, 0])
    return Measured(
        density=_density(visits, weights, by_place, lines),
        rows=rows,
        tokens=counts["tokens"],
        margin=QUANTILE * variance**0.5,
        passages=counts["passages"],
        truncated=counts["truncated"],
        lost_tokens=counts["lost"],
        text_bytes=counts["text_bytes"],
        beginnings=tuple(visit.source for visit in visits if visit.is_beginning),
    )


def _between(visits: Sequence[Visit], tokens: Floats) -> float:
    """Return the variance of the sum that comes from which places were drawn: by differences of neighbours."""
    variance = 0.0
    for kind in {visit.kind for visit in visits if visit.weight != 1.0}:
        drawn = sorted((visit.at, at) for at, visit in enumerate(visits) if visit.kind == kind)
        each = [
            visits[at].weight / visits[at].n_times * tokens[at] for _, at in drawn for _ in range(visits[at].n_times)
        ]
        variance += len(each) / max(1, 2 * (len(each) - 1)) * float(np.sum(np.diff(each) ** 2))
    return variance


def _density(visits: Sequence[Visit], weights: Floats, by_place: Floats, lines: Lines) -> Density:
    """Return tokens per row of files that are addressed by row, and per byte of the others; where there are none of
    them, of all."""
    tokens, rows = lines.of(by_place)[:, 0], by_place[:, :, 0].sum(axis=1)
    n_bytes = np.array([visit.n_bytes for visit in visits], float)
    by_row = np.array([visit.by_row for visit in visits])

    def ratio(below: Floats, these: NDArray[np.bool_]) -> float:
        these = these if (weights[these] @ below[these]) > 0 else np.ones(len(visits), np.bool_)
        return max(float(weights[these] @ tokens[these]) / max(1.0, float(weights[these] @ below[these])), 1e-6)

    return Density(tokens_per_row=max(1.0, ratio(rows, by_row)), tokens_per_byte=ratio(n_bytes, ~by_row))


class _Counter:
    """Counts what texts come to under a config: see COUNTS."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, texts: Sequence[str], factors: Floats) -> Floats:
        """Return the counts (texts, counts) of texts, each of which is longer by its factor than what is given."""
        found = np.zeros((len(texts), len(COUNTS)))
        for start in range(0, len(texts), BATCH_TEXTS):
            some = slice(start, start + BATCH_TEXTS)
            found[some] = self._count(texts[some], factors[some])
        return found

    def _count(self, texts: Sequence[str], factors: Floats) -> Floats:
        made = passages_of(texts, self._config)
        found = np.zeros((len(texts), len(COUNTS)))
        found[:, 4] = [len(text.encode()) for text in texts] * factors
        of, n_tokens = np.array(made.text, np.int64), np.array([len(ids) for ids in made.ids], float)
        if self._config.corpus.on_long == "split":
            np.add.at(found[:, 0], of, n_tokens * factors[of])
            np.add.at(found[:, 1], of, factors[of])
            return found
        read = np.maximum(np.array(made.stop, float), 1.0)  # characters of the passage
        in_all = n_tokens * np.array([len(texts[at]) for at in made.text]) * factors[of] / read
        kept = np.minimum(np.where(made.truncated, n_tokens, in_all), self._config.model.max_tokens)
        found[of] = np.column_stack([kept, np.ones(len(of)), in_all > kept + 0.5, in_all - kept, found[of, 4]])
        return found
