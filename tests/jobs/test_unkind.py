"""A whole run on a plane that is as unkind as Modal may be, in everything at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.modal_loopback import KillAtInput
from tests.support.modal_jobs import CLASS, ROWS, embedded, house, needs_plane

pytestmark = needs_plane
MAX_CHUNK_TEXTS = 200
UNKIND: dict[str, Any] = {
    "background_commit_s": 0.1,
    "commit_s": 0.1,
    "commit_s_per_file": 0.002,
    "reload_s": 0.2,
    "folders_sync": False,
    "orphan_s": 1.5,
}


def test_a_run_that_is_killed_once_completes_where_volumes_are_slow_empty_and_half_written(tmp_path: Path) -> None:
    kills = [
        KillAtInput(on=f"{CLASS}.embed_chunk", nth=5, after_s=0.1),
        KillAtInput(on=f"{CLASS}.embed_chunk", nth=12, strikes="drive"),
    ]
    with house(tmp_path, chunk_tokens=2000, delay_s=0.15, faults=kills, **UNKIND) as home:
        printed = home.run("--input", "books/")
        assert len(home.plane.faults.fired) == len(kills)
        home.check_complete("books", tmp_path / "out", ROWS)
        assert len(ROWS) <= embedded(printed) <= len(ROWS) + 4 * MAX_CHUNK_TEXTS
        assert "this run embedded 0 texts" in home.run("--input", "books/")

        # What changes is embedded into parts that wait, with the vectors of what did not.
        config = home.folder / "configs/hashing.toml"
        config.write_text(config.read_text().replace("chunk_tokens = 2000", "chunk_tokens = 3000"))
        (tmp_path / "more/books").mkdir(parents=True)
        (tmp_path / "more/books/d.jsonl").write_text('{"id": "late", "text": "came late"}\n')
        home.plane.seed("embedding-corpus", tmp_path / "more")
        assert "this run embedded 1 text" in home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", [*ROWS, {"id": "late"}])
