"""A file of any format and size is embedded in the memory that a fifth of it takes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.support import HASHING, embed_corpus, status
from tests.support.big import BIG_ENDINGS, write_big

BIG_BYTES = int(float(os.environ.get("EMBED_BIG_GB", "1")) * (1 << 30))
TIMEOUT_S = 3600
N_RUNS = 3


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("ending", BIG_ENDINGS)
def test_a_large_file_takes_the_memory_of_a_fifth_of_it(
    tmp_path: Path, ending: str, record_property: Callable[[str, object], None]
) -> None:
    few = list(peaks(tmp_path / "few", ending, BIG_BYTES // 5))
    many = []
    with contextlib.closing(peaks(tmp_path / "many", ending, BIG_BYTES)) as runs:
        for size in runs:
            many.append(size)
            if size <= 1.1 * min(few):
                break
    record_property("peaks", [few, many])
    assert min(many) <= 1.1 * min(few)


def peaks(folder: Path, ending: str, n_bytes: int) -> Generator[int]:
    """Yield the memory that each run of a generated input holds at most, in bytes; the least is without chance's."""
    n_rows = write_big(folder / "in", ending, n_bytes)
    try:
        for at in range(N_RUNS):
            yield peak(folder / "in", folder / f"out-{at}", n_rows)
    finally:
        shutil.rmtree(folder)


def peak(source: Path, output: Path, n_rows: int) -> int:
    """Embed an input and return the most memory that the run held, in bytes."""
    run = ("run", "--input", source, "--output", output, *HASHING, "--set", "run.chunk_tokens=10000")
    done = embed_corpus(*run, timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    found = status(output)
    assert (found["state"], found["input_rows"], found["embedded_rows"]) == ("complete", n_rows, n_rows)
    size: int = found["peak_rss_bytes"]
    return size
