"""Cut what an output lacks of a corpus into chunks, in the order of the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from pipeline.chunk import Chunk, ChunkSize, Density, Shard, ShardSpan, Span, fill_chunks, gaps
from pipeline.config import Config
from pipeline.console import board
from pipeline.corpus import Corpus, Kinds
from pipeline.driver.draw import skipping
from pipeline.recipe import fingerprint, recipe

Done = Mapping[str, Sequence[tuple[Span, bool]]]  # source -> finished spans, each with whether it ends the shard


def plan_chunks(  # noqa: PLR0913  all but the first four have a default
    corpus: Corpus,
    done: Done,
    density: Density,
    config: Config,
    size: ChunkSize,
    *,
    limit: int | None = None,
    salts: Mapping[Shard, str] = MappingProxyType({}),
    kinds: Kinds | None = None,
    bad: dict[str, str] | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks still to be made, in the order of the corpus; a line file is read once, to find where its lines
    end.

    `limit` counts rows over the whole corpus, finished ones included. A salt tells the chunks of a shard from parts of
    the same shard, by size and date, that say something else. What the lines of the chunks have in kept
    columns is added to `kinds`. Where `bad` is given, a shard that turns out unreadable goes there, with why.
    """
    found = _cut_shards(corpus, done, density, size, limit, salts, {} if kinds is None else kinds, bad)
    yield from fill_chunks(found, density, size, fingerprint(recipe(config)))


def _cut_shards(  # noqa: PLR0913  those of `plan_chunks`
    corpus: Corpus,
    done: Done,
    density: Density,
    size: ChunkSize,
    left: int | None,
    salts: Mapping[Shard, str],
    kinds: Kinds,
    bad: dict[str, str] | None,
) -> Iterator[ShardSpan]:
    if left is not None:
        left -= sum(span.n_rows for spans in done.values() for span, _ in spans)
    for shard in corpus.shards:
        board().read()
        for gap, is_open in gaps(done.get(shard.source, ())):
            if left is not None and left <= 0:
                return
            spans = corpus.reader(shard).cut(gap, density, size, is_open=is_open, limit=left, kinds=kinds)
            with skipping(shard, bad):
                for span, last in spans:
                    if left is not None:
                        left -= span.n_rows
                    yield ShardSpan(shard=shard, span=span, last=last, salt=salts.get(shard, ""))
