"""The size of a chunk: it follows the corpus, the engine and the memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipeline.chunk import ChunkSize
from pipeline.config import Config
from pipeline.dataset import Receipt, totals
from pipeline.driver.measure import Measured

MAX_PARTS = 20_000  # of a dataset, as far as the other limits allow
MIN_S, MAX_S = 60.0, 900.0  # of the engine: what a part costs is little beside it; what a crash costs is not much more
UNMEASURED = (65_536, 8 << 20)  # tokens, where nobody knows how fast the engine is
ROWS = (16_384, 65_536)
TEXT_BYTES = (64 << 20, 256 << 20)
VECTOR_SHARE, TEXT_SHARE = 0.93, 0.4  # what zstd leaves of float16 numbers, and of texts
ROW_BYTES = 40.0  # of the other columns, without kept ones
VECTOR_BYTES = 256 << 20  # of a chunk's vectors in float16


def chunk_size(
    config: Config, measured: Measured, kept: Iterable[Receipt] = (), tokens_per_s: float = 0.0
) -> ChunkSize:
    """Return the size of the chunks of a corpus, of which some parts may be there already; a config may say the tokens
    (`run.chunk_tokens`)."""
    there = totals(kept)
    n_tokens = measured.tokens + there["tokens"]
    n_bytes = measured.text_bytes * n_tokens / max(measured.tokens, 1.0)
    found = size_of(n_tokens, measured.rows + there["input_rows"], n_bytes, config.dim, tokens_per_s)
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


def bytes_per_row(config: Config, kept: Iterable[Receipt], measured: Measured) -> float:
    """Return the bytes of a row in a dataset, about: as its parts say, else by the vectors and the texts."""
    sums = totals(kept)
    if sums["input_rows"]:
        return float(sums["size_bytes"] / sums["input_rows"])
    share_kept = measured.tokens / max(measured.tokens + measured.lost_tokens, 1.0)
    text = TEXT_SHARE * measured.text_bytes * share_kept if config.corpus.store_text else 0.0
    vectors = VECTOR_SHARE * 2 * config.dim * measured.passages
    return ROW_BYTES + (vectors + text) / max(measured.rows, 1.0)


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
