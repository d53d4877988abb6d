"""The simulation of scale.py, made small: what it reckons, and that memory follows files and not rows."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.benchmarks.scale import efficiency
from tests.support import REPOSITORY


def simulated(n_files: int, n_rows: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--files", str(n_files), "--rows", str(n_rows)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["rows"] == n_files * n_rows
    return found


def test_memory_and_messages_do_not_grow_with_rows() -> None:
    few, many = simulated(500, 1_000), simulated(500, 30_000)
    assert many["chunks"] > 10 * few["chunks"]
    assert many["peak_rss_mb"] < 1.1 * few["peak_rss_mb"]
    assert many["largest_message_bytes"] <= few["largest_message_bytes"] < 100_000


@pytest.mark.parametrize("n_containers", [1, 4, 10])
def test_equal_chunks_on_containers_that_divide_them_are_all_work_but_the_start(n_containers: int) -> None:
    assert efficiency([100.0] * 100, n_containers, 0.0) == round(100 * 100 / (100 * 100 + 60 * n_containers), 3)
