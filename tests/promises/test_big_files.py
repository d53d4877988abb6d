"""A file of any format and size is embedded in the memory that a small one takes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support import HASHING, embed_corpus, status
from tests.support.big import BIG_ENDINGS, write_big

BIG_BYTES = int(float(os.environ.get("EMBED_BIG_GB", "2")) * (1 << 30))
SMALL_BYTES = 256 << 20  # many chunks
TIMEOUT_S = 3600


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("ending", BIG_ENDINGS)
def test_a_large_file_takes_the_memory_of_a_small_one(tmp_path: Path, ending: str) -> None:
    few, many = peak(tmp_path / "few", ending, SMALL_BYTES), peak(tmp_path / "many", ending, BIG_BYTES)
    assert many <= 1.1 * few


def peak(folder: Path, ending: str, n_bytes: int) -> int:
    """Embed a generated input and return the most memory that the run held, in bytes."""
    n_rows = write_big(folder / "in", ending, n_bytes)
    run = ("run", "--input", folder / "in", "--output", folder / "out", *HASHING, "--set", "run.chunk_tokens=10000")
    done = embed_corpus(*run, timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    found = status(folder / "out")
    assert (found["state"], found["input_rows"], found["embedded_rows"]) == ("complete", n_rows, n_rows)
    shutil.rmtree(folder)
    size: int = found["peak_rss_bytes"]
    return size
