"""Cut chunks, in halves and where one that was attempted before begins or ends, and count what is missing of them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.chunk import Chunk, ShardSpan, Span, make_chunk
from pipeline.corpus import reader_of, shard_at
from pipeline.dataset import Attempt, Receipt
from pipeline.errors import CorpusError
from pipeline.recipe import fingerprint, recipe
from pipeline.worker import Job


def halves(chunk: Chunk, job: Job) -> list[Chunk]:
    """Return the two chunks of half the rows; raises CorpusError when a shard has changed."""
    left, before, after = chunk.n_rows // 2, list[ShardSpan](), list[ShardSpan]()
    for each in chunk.spans:
        n_before = min(max(left, 0), each.span.n_rows)
        left -= each.span.n_rows
        if 0 < n_before < each.span.n_rows:
            row = each.span.row_start + n_before
            first, second = _cut(each, {row: reader_of(job.root, each.source).byte_of(each.span, row)})
            before.append(first)
            after.append(second)
        else:
            (before if n_before else after).append(each)
    return [_chunk_like(chunk, spans, job) for spans in (before, after)]


def pieces(chunk: Chunk, attempts: Sequence[Attempt], job: Job) -> list[Chunk]:
    """Cut a chunk so that each piece is wholly in an attempted chunk, or wholly outside of it."""
    tried = [each for attempt in attempts for each in attempt.chunk.spans]
    spans = [piece for each in chunk.spans for piece in _cut(each, _borders(each, tried))]

    def attempted_in(each: ShardSpan) -> tuple[bool, ...]:
        return tuple(any(each in outer for outer in attempt.chunk.spans) for attempt in attempts)

    groups = [list(group) for _, group in itertools.groupby(spans, attempted_in)]
    return [chunk] if len(groups) == 1 else [_chunk_like(chunk, group, job) for group in groups]


def without_unreadable(chunk: Chunk, source: str, job: Job) -> Chunk | None:
    """Return the chunk without a shard that could not be read, and without any that has changed; None where nothing
    is left, or where it has no such shard."""
    if source not in (sources := {each.source for each in chunk.spans}):
        return None

    def is_sound(each: ShardSpan) -> bool:
        with contextlib.suppress(CorpusError):
            return each.source != source and shard_at(job.root, each.source) == each.shard
        return False

    sound = [each for each in chunk.spans if is_sound(each)] if len(sources) > 1 else []
    return _chunk_like(chunk, sound, job) if sound else None


def _borders(each: ShardSpan, tried: Sequence[ShardSpan]) -> dict[int, int]:
    """Return the rows inside a span where one that was tried begins or ends, each with the byte where it begins."""
    spans = [other.span for other in tried if other.shard == each.shard]
    edges = {span.row_start: span.byte_start for span in spans} | {span.row_stop: span.byte_stop for span in spans}
    return {row: edges[row] for row in sorted(edges) if each.span.row_start < row < each.span.row_stop}


def _cut(each: ShardSpan, borders: Mapping[int, int]) -> list[ShardSpan]:
    """Cut a span at rows inside it, given in rising order and each with the byte where it begins."""
    span = each.span
    at = {span.row_start: span.byte_start, **borders, span.row_stop: span.byte_stop}
    return [
        replace(
            each,
            span=Span(row_start=start, row_stop=stop, byte_start=at[start], byte_stop=at[stop]) if borders else span,
            last=each.last and stop == span.row_stop,
        )
        for start, stop in itertools.pairwise(at)
    ]


def _chunk_like(chunk: Chunk, spans: Sequence[ShardSpan], job: Job) -> Chunk:
    return replace(make_chunk(spans, fingerprint(recipe(job.config))), ready=chunk.ready)


def count_missing(chunks: Collection[Chunk], made: Sequence[Receipt]) -> int:
    """Return how many chunks lack a row; one that was halved is there in pieces."""
    planned, reported = {chunk.id for chunk in chunks}, {receipt.chunk for receipt in made}
    pieces = [each for receipt in made if receipt.chunk not in planned for each in receipt.spans]

    def is_missing(chunk: Chunk) -> bool:
        if chunk.id in reported:
            return False
        inside = (piece.span.n_rows for piece in pieces if any(piece in each for each in chunk.spans))
        return sum(inside) < chunk.n_rows

    return sum(map(is_missing, chunks))
