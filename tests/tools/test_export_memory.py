"""Exports and quality need a memory that does not follow the dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.arguments import FORMATS
from tests.support import REPOSITORY
from tests.support.vectors import write_dataset

PEAK = """
import sys
from pipeline.cli import main
from pipeline.console import peak_rss_bytes
assert main(sys.argv[1:]) == 0
print(peak_rss_bytes())
"""


EXPORTS = [("export", "--to", target) for target in FORMATS]


def peak_bytes(asked: tuple[str, ...], output: Path, destination: Path) -> int:
    """Return the peak of a command that ends well."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *asked, str(output), *([str(destination)] if asked[0] == "export" else [])],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return two datasets; the vectors of the second are 92 MiB larger in float32."""
    folder = tmp_path_factory.mktemp("memory")
    return [write_dataset(folder / f"{n_parts}", n_parts, 10_000).root for n_parts in (2, 8)]


# Lance fills buffers of its own first: see the slow test.
@pytest.mark.parametrize("asked", [*(each for each in EXPORTS if "lance" not in each), ("quality", "--sample", "100")])
def test_memory_does_not_grow_with_the_dataset(outputs: list[Path], tmp_path: Path, asked: tuple[str, ...]) -> None:
    small, large = (peak_bytes(asked, output, tmp_path / output.name) for output in outputs)
    assert large - small < 45 << 20  # half of what the vectors are more


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset whose vectors are 1.4 GiB in float32."""
    return write_dataset(tmp_path_factory.mktemp("million") / "out", 50, 20_000).root


@pytest.mark.slow
@pytest.mark.parametrize("asked", [*EXPORTS, ("quality",)])
def test_a_million_passages_need_less_than_half_of_their_vectors(
    million: Path, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    assert peak_bytes(asked, million, tmp_path / "dest") < 700 << 20
