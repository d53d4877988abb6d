"""Memory does not depend on how much there is to embed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support import HASHING, embed_corpus, status, texts, write_jsonl, write_parquet


@pytest.mark.parametrize(
    ("n_rows", "times"), [(40_000, 5), pytest.param(200_000, 10, marks=pytest.mark.slow)], ids=["short", "long"]
)
@pytest.mark.parametrize("name", ["a.jsonl", pytest.param("a.jsonl.gz", marks=pytest.mark.slow), "a.parquet"])
def test_many_times_the_rows_take_at_most_a_tenth_more_memory(
    tmp_path: Path, name: str, n_rows: int, times: int
) -> None:
    few, many = (tmp_path / size / name for size in ("few", "many"))
    for source, n in ((few, n_rows), (many, times * n_rows)):
        (write_parquet if name.endswith("parquet") else write_jsonl)(source, texts(n))
    # Which steps of two chunks meet is chance, and can only add: what every run takes is the least of several.
    of_few = min(peak(few, tmp_path / f"few-{i}") for i in range(3))
    assert any(peak(many, tmp_path / f"many-{i}") <= 1.1 * of_few for i in range(3))


def peak(source: Path, output: Path) -> int:
    done = embed_corpus("run", "--input", source, "--output", output, *HASHING, "--set", "run.chunk_tokens=10000")
    assert done.returncode == 0, done.stderr
    found: int = status(output)["peak_rss_bytes"]
    return found


def test_the_peak_is_that_of_the_run_and_not_of_what_started_it(tmp_path: Path) -> None:
    held = np.ones(500 << 20, np.uint8)
    source = write_jsonl(tmp_path / "a.jsonl", texts(10))
    assert embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING).returncode == 0
    assert status(tmp_path / "out")["peak_rss_bytes"] < held.nbytes
