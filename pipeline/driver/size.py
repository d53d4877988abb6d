"""The size of a chunk: it follows the corpus, the engine and the memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.chunk import ChunkSize, Density, Shard
from pipeline.config import Config
from pipeline.dataset import Receipt

MAX_PARTS = 20_000  # of a dataset, as far as the other limits allow
MIN_S, MAX_S = 60.0, 900.0  # of the engine: what a part costs is little beside it; what a crash costs is not much more
UNMEASURED = (65_536, 8 << 20)  # tokens, where nobody knows how fast the engine is
ROWS = (16_384, 65_536)
TEXT_BYTES = (64 << 20, 256 << 20)
VECTOR_BYTES = 256 << 20  # of a chunk's vectors in float16
PACKING = {"jsonl": 1.0, "ndjson": 1.0, "parquet": 2.5}  # bytes of text in a byte of a file, by its ending
PACKED = 4.0  # of other files


def chunk_size(config: Config, density: Density, shards: Sequence[Shard], tokens_per_s: float = 0.0) -> ChunkSize:
    """Return the size of the chunks of a corpus; a config may say the tokens (`run.chunk_tokens`)."""
    n_bytes = _text_bytes(shards)
    n_tokens = n_bytes * density.tokens_per_byte
    found = size_of(n_tokens, n_tokens / max(density.tokens_per_row, 1.0), n_bytes, config.dim, tokens_per_s)
    return replace(found, tokens=config.run.chunk_tokens or found.tokens)


def size_of(n_tokens: float, n_rows: float, n_bytes: float, dim: int, tokens_per_s: float) -> ChunkSize:
    """Return the size of the chunks of a corpus of so many tokens, rows and bytes of text.

    With n tokens in all a chunk has n / MAX_PARTS, but no less than the engine does in MIN_S and no more than in MAX_S;
    likewise for rows and bytes of text within ROWS and TEXT_BYTES, and its vectors take no more than VECTOR_BYTES.
    """
    least, most = (MIN_S * tokens_per_s, MAX_S * tokens_per_s) if tokens_per_s else UNMEASURED
    most_rows = max(1, min(ROWS[1], VECTOR_BYTES // (2 * dim)))
    return ChunkSize(
        tokens=round(_within(n_tokens / MAX_PARTS, max(least, 1.0), most)),
        rows=round(_within(n_rows / MAX_PARTS, min(ROWS[0], most_rows), most_rows)),
        size_bytes=round(_within(n_bytes / MAX_PARTS, *TEXT_BYTES)),
    )


def rows_about(density: Density, shards: Iterable[Shard]) -> int:
    """Return how many rows shards have, as far as their sizes tell."""
    return round(_text_bytes(shards) * density.tokens_per_byte / max(density.tokens_per_row, 1.0))


def measured_speed(receipts: Iterable[Receipt]) -> float:
    """Return the tokens a second of the engine that made some parts; 0 where none of them tells."""
    timed = [receipt for receipt in receipts if receipt.engine_s]
    seconds = sum(receipt.engine_s for receipt in timed)
    return sum(map(_engine_tokens, timed)) / seconds if seconds else 0.0


def _engine_tokens(receipt: Receipt) -> float:
    """Return the tokens that the engine had for a part; of an earlier version, as many as its share of the passages."""
    return receipt.engine_tokens or receipt.tokens * receipt.engine_texts / max(1, receipt.passages)


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _text_bytes(shards: Iterable[Shard]) -> float:
    return sum(shard.size_bytes * _packing(shard) for shard in shards)


def _packing(shard: Shard) -> float:
    return PACKING.get(shard.source.rpartition(".")[2].lower(), PACKED)
