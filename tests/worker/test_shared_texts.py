"""Chunks of a process that share texts become what each would become alone, whatever their texts, order and luck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import pipeline.worker.memory
from pipeline.dataset.manifest import Receipt
from pipeline.worker.memory import Memory
from tests.support.chunks import Corpus, Engine, failing, refusing

TEXTS = {
    "L": "a long text of eight words in all",
    "M": "another that is long and has one odd word in its middle",
    "O": "this is odd",
    "S": "\u200b",
}
COUNTS = ("input_rows", "embedded_rows", "rejected_rows", "reasons", "passages", "truncated", "tokens", "reused_rows")


def settings_for(on_long: str) -> list[str]:
    return [f"corpus.on_long={on_long}", "model.max_tokens=5"]


def published(corpus: Corpus, receipt: Receipt) -> tuple[list[Any], list[pa.Table]]:
    """Return what a receipt counts and what the files of its chunk hold."""
    paths = [corpus.store.data_path(receipt.part)]
    paths += [corpus.store.rejects_path(receipt.part)] if receipt.has_rejects else []
    files = [pq.read_table(path).replace_schema_metadata(None) for path in paths]
    return [msgspec.structs.asdict(receipt)[name] for name in COUNTS], files


def alone(folder: Path, letters: str, on_long: str) -> list[tuple[list[Any], list[pa.Table]]]:
    """Return what each chunk becomes where no chunk knows of another."""
    corpus = Corpus(folder, letters, texts=TEXTS, settings=settings_for(on_long))
    found = []
    for chunk in range(len(corpus.chunks)):
        made = corpus.embed(chunk, Engine(refusing("odd")), Memory())
        assert isinstance(made, Receipt)
        found.append(published(corpus, made))
    return found


@pytest.mark.parametrize(
    ("on_long", "text", "reason", "chunk_tokens"),
    [
        ("split", "L", "", 12),
        ("reject", "L", "too_long", 4),
        ("truncate", "O", "engine_error", 7),
        ("truncate", "S", "empty_text", 5),
    ],
)
def test_a_text_that_chunks_share_is_split_or_rejected_in_each(
    tmp_path: Path, on_long: str, text: str, reason: str, chunk_tokens: int
) -> None:
    settings = [*settings_for(on_long), f"run.chunk_tokens={chunk_tokens}"]
    corpus = Corpus(tmp_path, f"a{text}", f"{text}b", f"{text}a", texts=TEXTS, settings=settings)
    made = [corpus.embed(chunk, Engine(refusing("odd"))) for chunk in range(3)]
    found = [(each.reasons, each.engine_texts) for each in made if isinstance(each, Receipt)]
    reasons = {reason: 1} if reason else {}
    n_pieces = 0 if reason else 2
    assert found == [(reasons, 1 + n_pieces), (reasons, 1), (reasons, 0)]


@given(
    letters=st.text("abcdLMOS", min_size=4, max_size=40),
    on_long=st.sampled_from(["truncate", "split", "reject"]),
    bound=st.sampled_from([1, 3, 1 << 21]),
    n_threads=st.integers(2, 4),
    order=st.randoms(use_true_random=False),
    fails=st.sets(st.integers(0, 12), max_size=3),
)
@hypothesis_settings(max_examples=60)
def test_chunks_become_what_each_becomes_alone(
    tmp_path_factory: pytest.TempPathFactory,
    letters: str,
    on_long: str,
    bound: int,
    n_threads: int,
    order: Any,
    fails: set[int],
) -> None:
    folder = tmp_path_factory.mktemp("shared")
    expected = alone(folder / "alone", letters, on_long)
    corpus = Corpus(folder / "together", letters, texts=TEXTS, settings=settings_for(on_long))
    numbers = list(range(len(corpus.chunks)))
    order.shuffle(numbers)
    engines = [Engine(failing if number in fails else refusing("odd")) for number in range(len(numbers))]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(n_threads) as threads:
        patch.setattr(pipeline.worker.memory, "MAX_TEXTS", bound)
        made = threads.map(lambda number: corpus.embed(number, engines[number]), numbers)
        outcomes = dict(zip(numbers, made, strict=True))
    done = {number: outcome for number, outcome in outcomes.items() if isinstance(outcome, Receipt)}
    assert outcomes.keys() - done.keys() <= fails
    for number, receipt in done.items():
        assert published(corpus, receipt) == expected[number]
        assert (receipt.engine_calls, receipt.engine_tokens) == (len(engines[number].calls), engines[number].n_tokens)
    if len(done) == len(outcomes) and bound > len(letters) and "M" not in letters:  # of M some passages are refused
        tables = [pq.read_table(corpus.store.data_path(receipt.part)) for receipt in done.values()]
        passages = pa.concat_tables(table.select(["content_hash", "passage"]) for table in tables)
        n_distinct = len(passages.group_by(["content_hash", "passage"]).aggregate([]))
        assert sum(receipt.engine_texts for receipt in done.values()) == n_distinct
