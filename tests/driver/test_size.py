"""The size of a chunk follows the corpus, the engine and the memory, from a thousand rows to a billion."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunk import Shard, ShardSpan, Span
from pipeline.dataset import Receipt, Store
from pipeline.dataset.volume import LocalVolume
from pipeline.driver.measure import NOTHING, Measured
from pipeline.driver.plan import make_plan
from pipeline.driver.rate import assumed_tokens_per_s
from pipeline.driver.size import MAX_PARTS, MAX_S, MIN_S, ROWS, TEXT_BYTES, VECTOR_BYTES, chunk_size, measured_speed
from pipeline.errors import UsageError
from tests.support import local_config, texts, write_jsonl

BYTES_PER_TOKEN = 4


def corpus_of(n_rows: int, tokens_per_row: float) -> Measured:
    n_tokens = n_rows * tokens_per_row
    return replace(NOTHING, rows=n_rows, tokens=n_tokens, text_bytes=n_tokens * BYTES_PER_TOKEN)


def parts_of(n_rows: int, tokens_per_row: float, tokens_per_s: float, dim: int) -> float:
    """Return how many parts such a corpus becomes."""
    config = local_config("engine.kind=hashing", f"model.dims=[{dim}]", "run.chunk_tokens=0")
    size = chunk_size(config, corpus_of(n_rows, tokens_per_row), (), tokens_per_s)
    n_tokens = n_rows * tokens_per_row
    return max(n_tokens / size.tokens, n_rows / size.rows, n_tokens * BYTES_PER_TOKEN / size.size_bytes, 1.0)


# KaLM on an A100, 7,200 tokens a second, at its full width and at 1,024. Above 20,000 parts it is the 15 minutes or the
# memory that hold: 10^9 rows of 512 tokens are 2.3 years of that GPU.
@pytest.mark.parametrize(
    ("n_rows", "tokens_per_row", "dim", "most"),
    [
        (10**3, 100, 1024, 1),
        (10**5, 100, 1024, 24),
        (10**6, 100, 1024, 240),
        (10**7, 100, 1024, 2_400),
        (10**8, 100, 1024, MAX_PARTS),
        (10**9, 50, 1024, MAX_PARTS),
        (10**9, 100, 1024, MAX_PARTS),
        (10**9, 100, 3840, 29_000),
        (10**9, 512, 1024, 80_000),
    ],
)
def test_the_parts_of_a_corpus(n_rows: int, tokens_per_row: float, dim: int, most: int) -> None:
    assert math.floor(parts_of(n_rows, tokens_per_row, 7200.0, dim)) <= most


@given(
    n_rows=st.integers(1, 10**9),
    tokens_per_row=st.floats(1, 10_000),
    tokens_per_s=st.floats(1, 1e6),
    dim=st.integers(1, 4096),
)
def test_a_chunk_keeps_its_bounds(n_rows: int, tokens_per_row: float, tokens_per_s: float, dim: int) -> None:
    config = local_config("engine.kind=hashing", f"model.dims=[{dim}]", "run.chunk_tokens=0")
    size = chunk_size(config, corpus_of(n_rows, tokens_per_row), (), tokens_per_s)
    assert math.floor(MIN_S * tokens_per_s) <= size.tokens <= math.ceil(MAX_S * tokens_per_s)
    assert 1 <= size.rows <= ROWS[1]
    assert size.rows * dim * 2 <= VECTOR_BYTES
    assert TEXT_BYTES[0] <= size.size_bytes <= TEXT_BYTES[1]


def test_a_config_may_say_the_tokens() -> None:
    config = local_config("engine.kind=hashing", "run.chunk_tokens=77")
    assert chunk_size(config, corpus_of(10**6, 100), (), 7200.0).tokens == 77


def receipt_of(**of_engine: float) -> Receipt:
    """Return the receipt of a part of which ten passages of 10,000 tokens have 9,991 tokens in one of them."""
    span = ShardSpan(shard=Shard(source="a", size_bytes=1, mtime_ns=0), span=Span(row_start=0, row_stop=10), last=True)
    counts = {"input_rows": 10, "embedded_rows": 10, "rejected_rows": 0, "passages": 10, "truncated": 0}
    of_part = {"chunk": "c", "part": "p", "has_rejects": False, "fingerprint": "f", "spans": (span,)}
    return msgspec.convert({**of_part, **counts, "tokens": 10_000, **of_engine}, Receipt)


def test_the_speed_of_an_engine_is_that_of_the_tokens_that_it_had() -> None:
    whole = receipt_of(engine_texts=10, engine_tokens=10_000, engine_s=10.0)
    long = receipt_of(engine_texts=1, engine_tokens=9_991, engine_s=10.0)
    refused = receipt_of(engine_texts=9, engine_tokens=10_000, engine_s=10.0)
    earlier = receipt_of(engine_texts=5, engine_s=10.0)
    idle = receipt_of()
    assert measured_speed([whole, idle]) == measured_speed([refused]) == 1000.0
    assert measured_speed([whole, long]) == pytest.approx(999.55)
    assert measured_speed([earlier]) == 500.0
    assert measured_speed([idle]) == 0.0


def test_a_gpu_that_is_not_measured_is_taken_to_reach_a_share_of_its_peak() -> None:
    assert assumed_tokens_per_s("A100-40GB", 2.15e10) == pytest.approx(5805, abs=1)
    assert assumed_tokens_per_s("H100!:2", 2.15e10) == pytest.approx(18400, abs=1)
    assert assumed_tokens_per_s("", 2.15e10) == assumed_tokens_per_s("M5", 1.0) == 0.0


def test_more_parts_than_a_volume_takes_are_refused_before_anything_is_embedded(tmp_path: Path) -> None:
    corpus = write_jsonl(tmp_path / "in.jsonl", texts(60))
    store = Store(root=tmp_path / "out", volume=LocalVolume(max_parts=3))
    config = local_config("engine.kind=hashing", "run.chunk_tokens=100")
    with pytest.raises(UsageError, match=r"at most 3 parts.* found 0 and \d+ to come.*run.chunk_tokens = 0"):
        make_plan(str(corpus), store, config)
    assert not store.root.exists()
    assert len(make_plan(str(corpus), store, local_config("engine.kind=hashing")).chunks) == 1
