"""Containers of the service are at work until the last chunk: no window of the fan-out ends before another begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import status
from tests.support.modal_jobs import CLASS, ROWS, house, needs_plane

pytestmark = needs_plane


@pytest.mark.parametrize(
    ("chunk_tokens", "delay_s", "least", "n_chunks"),
    [(1000, 1.0, 0.7, 30), pytest.param(90, 2.0, 0.95, 400, marks=pytest.mark.slow)],
    ids=["short", "long"],
)
def test_four_containers_whose_engines_sleep_are_four_times_as_fast(
    tmp_path: Path, chunk_tokens: int, delay_s: float, least: float, n_chunks: int
) -> None:
    """A dataset's `engine_busy` counts each container from its engine's start to its last chunk."""
    with house(tmp_path, chunk_tokens=chunk_tokens) as home:
        home.engine(delay_s)
        assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        home.run("--input", "books/", "--max-containers", "4")
        home.check_complete("books", tmp_path / "out", ROWS)
        told = status(tmp_path / "out")
        assert len(home.plane.seen.of(CLASS)) == 4
        assert told["parts"] >= n_chunks
        assert told["engine_busy"] >= least
        assert told["engine_s"] >= told["parts"] * delay_s
        assert home.plane.volume_version("embedding-output") == 2
