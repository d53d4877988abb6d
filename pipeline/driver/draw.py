"""Draw: which places of a corpus are looked at, to learn how long its rows are.

A small corpus is looked at whole. Of a large one places are drawn with a chance that is proportional to their bytes, at
even steps over the files of each kind (W. G. Cochran, Sampling Techniques, 3rd ed., 1977, sections 8 and 9A).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.chunk import Shard
from pipeline.corpus import Corpus
from pipeline.driver.tally import Tally
from pipeline.errors import CorpusError, advised

WHOLE_BYTES = 256 << 20  # of text in a corpus that is looked at whole
WHOLE_SHARDS = 1_000
FIRST_SHARDS = 16  # whose first rows are read as a run reads them: what is wrong with all of them shows before it
COUNTED_BYTES = 4 << 20  # of text in a corpus whose rows are all tokenised
MOST_PLACES, LEAST_PLACES = 384, 24  # of each kind of file
PLACES_BYTES = 512 << 20  # of text at the places of a kind, unless those are too few
GOLDEN = (5**0.5 - 1) / 2  # its multiples, less their whole part, are spread evenly however many are taken
PLAIN = ("jsonl", "ndjson", "json", "csv", "tsv", "md", "txt")
PACKING = {
    **dict.fromkeys(PLAIN, 1.0),
    "arrow": 1.5,
    "feather": 1.5,
    "parquet": 2.5,
    "pq": 2.5,
}  # bytes of text in a byte of a file, by its ending
PACKED = 4.0  # of other files


@dataclass(slots=True, kw_only=True)
class Visit:
    """A place that was looked at."""

    kind: str  # ending of the file's name
    by_row: bool  # whether rows of such files are addressed by their number
    source: str
    size_bytes: int  # of the file
    share: float = 0.0  # of the file that the place is
    n_bytes: int = 0  # of the place, before compression
    is_beginning: bool = False  # whether nothing else of the file can be looked at
    n_times: int = 1  # that it was drawn
    at: float = 0.0  # bytes of the files of its kind before it
    weight: float = 1.0  # how many rows a row of it means


@contextlib.contextmanager
def skipping(shard: Shard, bad: dict[str, str] | None) -> Iterator[None]:
    """Add a shard that cannot be read to `bad`, if that is given."""
    try:
        yield
    except CorpusError as error:
        if bad is None:
            raise CorpusError(advised(str(error), "Mend it, or try --skip-bad-files")) from error
        bad[shard.source] = str(error)


def packing(shard: Shard) -> float:
    """Return how many bytes of text a byte of a shard has, about."""
    return PACKING.get(shard.source.rpartition(".")[2].lower(), PACKED)


def is_counted(shards: Sequence[Shard]) -> bool:
    """Whether a corpus is so small that all its rows are tokenised, by what its files take."""
    return sum(shard.size_bytes * packing(shard) for shard in shards) <= COUNTED_BYTES


def draw(corpus: Corpus, shards: Sequence[Shard], tally: Tally, bad: dict[str, str] | None) -> list[Visit]:
    """Add the rows of places to a tally; return the places in that order, each with its weight.

    Raises CorpusError for a shard whose first rows cannot be read, unless it can be added to `bad`.
    """
    deeper: dict[str, str] = {} if bad is None else bad  # of shards bad further on; a run finds them, as it reads them
    by_kind: Mapping[str, list[Shard]] = defaultdict(list)
    for shard in shards:
        by_kind[shard.source.rpartition(".")[2].lower()].append(shard)
    is_whole = len(shards) <= WHOLE_SHARDS and sum(s.size_bytes * packing(s) for s in shards) <= WHOLE_BYTES
    visits: list[Visit] = []
    for shard in shards[:: max(1, len(shards) // FIRST_SHARDS)]:
        with skipping(shard, bad):
            corpus.reader(shard).head(replace(corpus.columns, keep=()))
    for of_kind in by_kind.values():
        if is_whole:
            for shard in of_kind:
                visits.append(_visit(corpus, shard, None, tally, deeper))
        elif sum(shard.size_bytes for shard in of_kind):
            visits += _at_places(corpus, of_kind, tally, deeper)
    return visits


def _at_places(corpus: Corpus, shards: Sequence[Shard], tally: Tally, bad: dict[str, str]) -> list[Visit]:
    ends = np.cumsum([shard.size_bytes for shard in shards])
    visits: dict[tuple[str, int], Visit] = {}
    first, n_bytes, n_drawn = tally.random.random(), 0, 0
    while n_drawn < MOST_PLACES and (n_drawn < LEAST_PLACES or n_bytes < PLACES_BYTES):
        at = (first + n_drawn * GOLDEN) % 1.0 * ends[-1]
        n_drawn += 1
        index = int(np.searchsorted(ends, at, side="right"))
        shard = shards[index]
        share = 1 - (ends[index] - at) / shard.size_bytes
        place = 0
        with skipping(shard, bad):
            place = corpus.reader(shard).place_at(share)
        if (known := visits.get((shard.source, place))) is not None:
            known.n_times += 1
            continue
        visit = _visit(corpus, shard, place, tally, bad)
        visit.at = at
        n_bytes += visit.n_bytes
        visits[shard.source, place] = visit
    for visit in visits.values():
        taken = max(visit.share * visit.size_bytes, 1.0)
        visit.weight = ends[-1] / taken * visit.n_times / n_drawn
    return list(visits.values())


def _visit(corpus: Corpus, shard: Shard, place: int | None, tally: Tally, bad: dict[str, str]) -> Visit:
    reader = corpus.reader(shard)
    kind = shard.source.rpartition(".")[2].lower()
    visit = Visit(kind=kind, by_row=reader.rows_have_places, source=shard.source, size_bytes=shard.size_bytes)
    tally.begin()
    with skipping(shard, bad):
        for block in reader.blocks(replace(corpus.columns, keep=()), place):
            tally.add(block)
            visit.share += block.share
            visit.n_bytes += block.n_bytes
        visit.is_beginning = place == 0 and visit.share < 0.99 and reader.place_at(0.999) == 0
    return visit
