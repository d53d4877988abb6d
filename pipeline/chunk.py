"""Planning is arithmetic: which rows of a shard still need a chunk, and where one chunk ends."""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

MAX_CHUNK_SPANS = 4_096  # a chunk travels with their names, and its receipt back
MAX_LINE_BYTES = 16 << 20  # a tokenizer may need 300 times as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One input file, as it was when the run was planned."""

    source: str  # POSIX path below the input
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A run of physical rows [row_start, row_stop) and, for line files, of the bytes that hold them.

    Bytes are counted in the decompressed stream; both are 0 for Parquet, which is addressed by row.
    """

    row_start: int
    row_stop: int
    byte_start: int = 0
    byte_stop: int = 0
    n_blank: int = 0  # lines among them that are no rows, as far as they are known

    @property
    def n_rows(self) -> int:
        """Number of physical rows."""
        return self.row_stop - self.row_start

    def __contains__(self, other: Span) -> bool:
        """Whether another span of the same shard is within this one."""
        return self.row_start <= other.row_start and other.row_stop <= self.row_stop


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSize:
    """How large a chunk may become, by whichever of these it meets first."""

    tokens: int
    rows: int = 16_384
    size_bytes: int = 64 << 20  # of text


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSpan:
    """A span, of which shard it is, and whether the shard ends with it."""

    shard: Shard
    span: Span
    last: bool
    salt: str = ""  # see make_chunk

    @property
    def source(self) -> str:
        """POSIX path of the shard below the input."""
        return self.shard.source

    def __contains__(self, other: ShardSpan) -> bool:
        """Whether another one is of the same shard, as it was then, and within this one."""
        return other.shard == self.shard and other.span in self.span


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows that travel together, in the order of the corpus: the unit of the map, of durability and of retry."""

    id: str
    spans: tuple[ShardSpan, ...]  # one at least
    ready: str = ""  # name of the saved vectors that older parts have for some of its rows

    @property
    def n_rows(self) -> int:
        """Number of physical rows."""
        return sum(each.span.n_rows for each in self.spans)

    @property
    def source(self) -> str:
        """The first of its shards, and in words how many others there are."""
        return in_words([each.source for each in self.spans])

    @property
    def part_name(self) -> str:
        """File name of the part this chunk becomes; names sort in the order of sources and rows."""
        first = self.spans[0]
        slug = re.sub(r"[^A-Za-z0-9]+", "_", PurePosixPath(first.source).name.split(".")[0])[:40]
        return f"part-{slug or 'shard'}-{first.span.row_start:010d}-{self.id}.parquet"

    def __contains__(self, other: Chunk) -> bool:
        """Whether all rows of another chunk are in this one."""
        return all(any(inner in outer for outer in self.spans) for inner in other.spans)


def in_words(sources: Sequence[str]) -> str:
    """Return the first of some sources, and how many others there are."""
    others = len(set(sources)) - 1
    return f"{sources[0]} and {others:,} more" if others else sources[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """Tokens that a corpus holds, as measured on a sample of its rows."""

    tokens_per_row: float
    tokens_per_byte: float  # of decompressed lines

    def n_tokens(self, span: Span) -> float:
        """Return the estimated tokens of a span; a line that is too long has none."""
        n_bytes = span.byte_stop - span.byte_start
        if span.n_rows == 1 and n_bytes > MAX_LINE_BYTES + 1:
            return 0.0
        return n_bytes * self.tokens_per_byte if n_bytes else span.n_rows * self.tokens_per_row


def make_chunk(spans: Iterable[ShardSpan], fingerprint: str) -> Chunk:
    """Return the chunk whose id is the digest of what it holds and of the recipe, not of its position in a run.

    The salt of a span tells it from the same rows of the same shard that say something else.
    """
    held = tuple(spans)
    identity = "\n".join(
        f"{each.source}\0{each.shard.size_bytes}\0{each.shard.mtime_ns}\0{each.span.row_start}\0{each.span.row_stop}\0"
        f"{fingerprint}{each.salt and f'{chr(0)}{each.salt}'}"
        for each in held
    )
    return Chunk(id=hashlib.blake2b(identity.encode(), digest_size=8).hexdigest(), spans=held)


@dataclass(slots=True, kw_only=True)
class _Open:
    """A chunk that is being filled."""

    spans: list[ShardSpan] = field(default_factory=list)
    tokens: float = 0.0
    rows: int = 0
    size_bytes: float = 0.0

    def has_room(self, tokens: float, rows: int, size_bytes: float, most: ChunkSize) -> bool:
        within = len(self.spans) < MAX_CHUNK_SPANS and self.rows + rows <= most.rows
        within = within and self.size_bytes + size_bytes <= most.size_bytes
        return not self.spans or (within and self.tokens + tokens <= most.tokens)


def fill_chunks(spans: Iterable[ShardSpan], density: Density, size: ChunkSize, fingerprint: str) -> Iterator[Chunk]:
    """Yield chunks of about a size, each of spans that follow one another in the order given.

    A span is never cut here. The bytes of a span are reckoned from those of its shard.
    """
    being_filled = _Open()
    for each in spans:
        span, shard = each.span, each.shard
        tokens = density.n_tokens(span)
        size_bytes = (span.byte_stop - span.byte_start) or shard.size_bytes * span.n_rows / max(1, span.row_stop)
        if not being_filled.has_room(tokens, span.n_rows, size_bytes, size):
            yield make_chunk(being_filled.spans, fingerprint)
            being_filled = _Open()
        being_filled.spans.append(each)
        being_filled.tokens += tokens
        being_filled.rows += span.n_rows
        being_filled.size_bytes += size_bytes
    if being_filled.spans:
        yield make_chunk(being_filled.spans, fingerprint)


def cut_rows(start: int, stop: int, rows_per_chunk: int) -> Iterator[Span]:
    """Cut [start, stop) into spans of at most `rows_per_chunk` rows, in order and without a gap."""
    for row in range(start, stop, rows_per_chunk):
        yield Span(row_start=row, row_stop=min(row + rows_per_chunk, stop))


def gaps(done: Iterable[tuple[Span, bool]]) -> list[tuple[Span, bool]]:
    """Return the spans of a shard that are not done, each with whether it is open to the end of the shard.

    `done` gives spans that do not overlap, each with whether it ends the shard. Where none does, what comes after
    them is an open gap: it has a start but no length yet. A finished shard has no gaps.
    """
    found: list[tuple[Span, bool]] = []
    row, byte, is_open = 0, 0, True
    for span, last in sorted(done, key=lambda item: item[0].row_start):
        if span.row_start > row:
            gap = Span(row_start=row, row_stop=span.row_start, byte_start=byte, byte_stop=span.byte_start)
            found.append((gap, False))
        row, byte, is_open = span.row_stop, span.byte_stop, not last
    if is_open:
        found.append((Span(row_start=row, row_stop=row, byte_start=byte, byte_stop=byte), True))
    return found


def rows_per_chunk(n_tokens: int, n_rows: int, size_bytes: int, size: ChunkSize) -> int:
    """Return how many of such rows make a chunk of about a size."""
    by_tokens = size.tokens * n_rows // max(n_tokens, 1)
    by_bytes = size.size_bytes * n_rows // max(size_bytes, 1)
    return max(1, min(by_tokens, by_bytes, size.rows))


@dataclass(slots=True)
class Taken:
    """Rows of one shard that are spoken for, as spans that share no row."""

    _starts: list[int] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)

    def meets(self, span: Span) -> bool:
        """Whether a span shares a row with one that was added."""
        at = bisect.bisect(self._starts, span.row_start)
        before = at > 0 and self._spans[at - 1].row_stop > span.row_start
        return before or (at < len(self._spans) and self._spans[at].row_start < span.row_stop)

    def add(self, span: Span) -> None:
        """Add a span that meets no other."""
        at = bisect.bisect(self._starts, span.row_start)
        self._starts.insert(at, span.row_start)
        self._spans.insert(at, span)


def overlapping(spans: Sequence[Span]) -> list[int]:
    """Return the indices of spans that share a row with an earlier one in the sequence; the earlier one stays."""
    taken, dropped = Taken(), []
    for index, span in enumerate(spans):
        if taken.meets(span):
            dropped.append(index)
        else:
            taken.add(span)
    return dropped
