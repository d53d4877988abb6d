"""Containers of the service are at work until the last chunk: no window of the fan-out ends before another begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import status
from tests.support.modal_jobs import CLASS, ROWS, house, needs_plane

pytestmark = needs_plane


@pytest.mark.slow
def test_four_containers_whose_engines_sleep_are_four_times_as_fast(tmp_path: Path) -> None:
    """A dataset's `engine_busy` counts each container from its engine's start to its last chunk."""
    with house(tmp_path, chunk_tokens=90) as home:
        home.engine(delay_s=2.0)
        assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        home.run("--input", "books/", "--max-containers", "4")
        home.check_complete("books", tmp_path / "out", ROWS)
        told = status(tmp_path / "out")
        assert len(home.plane.seen.of(CLASS)) == 4
        assert told["parts"] >= 400
        assert told["engine_s"] >= told["parts"] * 2.0
        assert told["engine_busy"] >= 0.95
