"""Memory does not depend on how much there is to embed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support import HASHING, embed_corpus, status, texts, write_jsonl, write_parquet


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_ten_times_the_rows_take_at_most_a_tenth_more_memory(tmp_path: Path, name: str) -> None:
    peaks = []
    for n_rows in (15_000, 150_000):
        source = tmp_path / str(n_rows) / name
        (write_parquet if name.endswith("parquet") else write_jsonl)(source, texts(n_rows))
        output = tmp_path / f"out-{n_rows}"
        done = embed_corpus("run", "--input", source, "--output", output, *HASHING, "--set", "run.chunk_tokens=30000")
        assert done.returncode == 0, done.stderr
        peaks.append(status(output)["peak_rss_bytes"])
    assert peaks[1] <= 1.1 * peaks[0]


def test_the_peak_is_that_of_the_run_and_not_of_what_started_it(tmp_path: Path) -> None:
    held = np.ones(500 << 20, np.uint8)
    source = write_jsonl(tmp_path / "a.jsonl", texts(10))
    assert embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING).returncode == 0
    assert status(tmp_path / "out")["peak_rss_bytes"] < held.nbytes
