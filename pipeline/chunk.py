"""Planning is arithmetic: which rows of a shard still need a chunk, and where one chunk ends."""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_CHUNK_ROWS = 16_384
MAX_CHUNK_BYTES = 64 << 20
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
class Chunk:
    """Rows of one shard that travel together: the unit of the map, of durability and of retry."""

    id: str
    shard: Shard
    span: Span
    last: bool  # whether the shard ends with this chunk
    salt: str = ""  # see make_chunk
    ready: str = ""  # name of the saved vectors that older parts have for some of its rows

    @property
    def part_name(self) -> str:
        """File name of the part this chunk becomes; names sort in the order of sources and rows."""
        slug = re.sub(r"[^A-Za-z0-9]+", "_", PurePosixPath(self.shard.source).name.split(".")[0])[:40]
        return f"part-{slug or 'shard'}-{self.span.row_start:010d}-{self.id}.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """Tokens that a corpus holds, as measured on a sample of its rows."""

    tokens_per_row: float
    tokens_per_byte: float  # of decompressed lines
    spread: float  # standard error of tokens_per_row, as a share of it

    def n_tokens(self, span: Span) -> float:
        """Return the estimated tokens of a span; a line that is too long has none."""
        n_bytes = span.byte_stop - span.byte_start
        if span.n_rows == 1 and n_bytes > MAX_LINE_BYTES + 1:
            return 0.0
        return n_bytes * self.tokens_per_byte if n_bytes else span.n_rows * self.tokens_per_row


def make_chunk(shard: Shard, span: Span, fingerprint: str, *, last: bool, salt: str = "") -> Chunk:
    """Return the chunk whose id is the digest of what it holds and of the recipe, not of its position in a run.

    `salt` tells it from a chunk of the same shard and span that holds something else.
    """
    identity = f"{shard.source}\0{shard.size_bytes}\0{shard.mtime_ns}\0{span.row_start}\0{span.row_stop}\0{fingerprint}"
    identity += salt and f"\0{salt}"
    digest = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    return Chunk(id=digest, shard=shard, span=span, last=last, salt=salt)


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


def rows_per_chunk(n_tokens: int, n_rows: int, size_bytes: int, chunk_tokens: int) -> int:
    """Return how many rows hold about `chunk_tokens`, within the limits on rows and bytes of a chunk."""
    by_tokens = chunk_tokens * n_rows // max(n_tokens, 1)
    by_bytes = MAX_CHUNK_BYTES * n_rows // max(size_bytes, 1)
    return max(1, min(by_tokens, by_bytes, MAX_CHUNK_ROWS))


def overlapping(spans: Sequence[Span]) -> list[int]:
    """Return the indices of spans that share a row with an earlier one in the sequence; the earlier one stays."""
    starts: list[int] = []
    kept: list[Span] = []
    dropped: list[int] = []
    for index, span in enumerate(spans):
        at = bisect.bisect(starts, span.row_start)
        before = at > 0 and kept[at - 1].row_stop > span.row_start
        after = at < len(kept) and kept[at].row_start < span.row_stop
        if before or after:
            dropped.append(index)
        else:
            starts.insert(at, span.row_start)
            kept.insert(at, span)
    return dropped
