"""The cron: it re-embeds what changed, leaves alone what another run holds, and fails when a dataset is not fresh."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.schedule import ScheduledDataset, load_schedule
from pipeline.errors import ConfigError, IncompleteError
from tests.support import REPOSITORY, embed_corpus, read_dataset, write_jsonl
from tests.support.crash import hashing_run
from tests.support.modal_jobs import (
    CLASS,
    CRON,
    CRON_APP,
    DATASET,
    ROWS,
    deploy_cron,
    embedded,
    house,
    needs_plane,
    tick,
)


@needs_plane
def test_a_tick_embeds_what_changed_and_nothing_else(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        deploy_cron(home, ("books/", "fresh"))
        assert home.plane.schedules() == [(CRON_APP, "reembed", "30 2 * * *", "Europe/Berlin")]
        assert tick(home)[0] == "SUCCESS"
        home.check_complete("fresh", tmp_path / "out", ROWS)

        n_containers = len(home.plane.seen.of(CLASS))
        n_inputs = home.plane.seen.inputs_started[f"{CLASS}.embed_chunk"]
        assert tick(home)[0] == "SUCCESS"
        assert len(home.plane.seen.of(CLASS)) == n_containers
        assert home.plane.seen.inputs_started[f"{CLASS}.embed_chunk"] == n_inputs

        (tmp_path / "more/books").mkdir(parents=True)
        (tmp_path / "more/books/d.jsonl").write_text('{"id": "late", "text": "came late"}\n')
        home.plane.seed("embedding-corpus", tmp_path / "more")
        assert tick(home)[0] == "SUCCESS"
        assert home.plane.seen.inputs_started[f"{CLASS}.embed_chunk"] == n_inputs + 1
        home.check_complete("fresh", tmp_path / "out", [*ROWS, {"id": "late"}])


@needs_plane
def test_what_was_moved_or_touched_costs_no_gpu_and_what_changed_its_new_texts(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000, delay_s=0.0) as home:
        home.run("--input", "books/")
        n_containers = len(home.plane.seen.of(CLASS))

        more = tmp_path / "more/books"
        more.mkdir(parents=True)
        (tmp_path / "corpus/books/c.jsonl.gz").rename(more / "moved.jsonl.gz")
        shutil.copy(tmp_path / "corpus/books/a.parquet", more)  # with a date of its own
        home.plane.seed("embedding-corpus", tmp_path / "more")
        assert home.modal("volume", "rm", "embedding-corpus", "books/c.jsonl.gz").returncode == 0
        home.plane.seen.commits.clear()
        printed = home.run("--input", "books/")
        assert "embedded 0 texts, kept 2,000 rows, reused 1,000 rows in" in printed
        assert len(home.plane.seen.of(CLASS)) == n_containers
        home.check_complete("books", tmp_path / "out", ROWS)
        # Old parts, new parts and the manifest that names the new ones: one commit carries them.
        swaps = [
            commit for commit in home.plane.seen.commits if commit.removed and "books/manifest.jsonl" in commit.changed
        ]
        assert len(swaps) == 1
        assert len([path for path in swaps[0].removed if path.startswith("books/data/")]) >= 5
        assert len([path for path in swaps[0].changed if path.startswith("books/data/")]) >= 5

        rows = [row | ({"text": f"new {i}"} if i % 50 == 0 else {}) for i, row in enumerate(ROWS[1000:2000])]
        write_jsonl(more / "sub/b.jsonl", rows)
        home.plane.seed("embedding-corpus", tmp_path / "more")
        printed = home.run("--input", "books/")
        assert embedded(printed) == 20
        assert "embedded 20 texts" in printed
        assert "removed 20 " in printed
        output = home.dataset("books", tmp_path / "out")
        assert embed_corpus("verify", output).returncode == 0
        shutil.copytree(tmp_path / "corpus/books", tmp_path / "now")
        shutil.copytree(more, tmp_path / "now", dirs_exist_ok=True)
        hashing_run(tmp_path / "now", tmp_path / "local")
        assert read_dataset(output).equals(read_dataset(tmp_path / "local"))


@needs_plane
def test_a_tick_lets_many_rows_go_only_where_the_schedule_says_so(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        deploy_cron(home, ("books/", "fresh"))
        assert tick(home)[0] == "SUCCESS"
        assert home.modal("volume", "rm", "embedding-corpus", "books/c.jsonl.gz").returncode == 0
        before = home.plane.committed("embedding-output")
        status, exception = tick(home)
        assert status == "FAILURE"
        assert "found 1,000 of its 3,000 rows, of c.jsonl.gz; nothing was changed" in exception
        assert home.plane.committed("embedding-output") == before
        deploy_cron(home, ("books/", "fresh"), more="prune = true\n")
        assert tick(home)[0] == "SUCCESS"
        home.check_complete("fresh", tmp_path / "out", ROWS[:2000])
        done = home.modal(
            "run", "jobs/embed_corpus.py", "--input", "books/a.parquet", "--output", "fresh", "--dim", "64"
        )
        assert "found 1,000 of its 2,000 rows, of sub/b.jsonl" in done.stdout + done.stderr
        home.run("--input", "books/a.parquet", "--output", "fresh", "--dim", "64", "--prune")
        home.check_complete("fresh", tmp_path / "one", ROWS[:1000])


@needs_plane
def test_of_two_ticks_at_once_one_runs(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000, delay_s=0.2) as home:
        deploy_cron(home, ("books/", "fresh"))
        calls = [home.plane.tick(CRON_APP, "reembed") for _ in range(2)]
        assert [home.plane.wait(call).status for call in calls] == ["SUCCESS", "SUCCESS"]
        home.check_complete("fresh", tmp_path / "out", ROWS)
        parts = [path for path in home.plane.committed("embedding-output") if path.startswith("fresh/data/")]
        assert home.plane.seen.inputs_started[f"{CLASS}.embed_chunk"] == len(parts)
        assert home.plane.seen.max_containers[CLASS] == 1


@needs_plane
def test_every_dataset_is_attempted_and_a_failure_is_told(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        deploy_cron(home, ("none/", "one"), ("books/", "two"))
        status, exception = tick(home)
        assert status == "FAILURE"
        assert "1 of 2 datasets are not up to date. one: input" in exception
        home.check_complete("two", tmp_path / "out", ROWS)


@pytest.mark.filterwarnings("ignore:The reembed function is executing locally")
def test_an_error_that_nobody_expected_keeps_no_dataset_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    import jobs.driver
    from jobs import reembed

    turns: list[str] = []

    def drive(request: Mapping[str, Any], *, began_at: float) -> dict[str, Any]:
        turns.append(request["output"])
        raise ZeroDivisionError("odd")

    targets = tuple(ScheduledDataset(input="in", output=name, config="configs/hashing.toml") for name in ("one", "two"))
    monkeypatch.setattr(reembed, "SCHEDULE", msgspec.structs.replace(reembed.SCHEDULE, datasets=targets))
    monkeypatch.setattr(jobs.driver, "drive", drive)
    with pytest.raises(IncompleteError, match=r"^2 of 2 .* one: unexpected ZeroDivisionError: odd"):
        reembed.reembed.local()
    assert turns == ["one", "two"]


@needs_plane
def test_a_schedule_that_is_not_enabled_is_not_registered(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        deploy_cron(home, ("books/", "fresh"), enabled="false")
        assert home.plane.schedules() == []


def test_the_schedule_in_the_repository_is_off_and_sound() -> None:
    schedule = load_schedule(REPOSITORY / "configs/cron.toml")
    assert not schedule.enabled
    assert schedule.datasets


@pytest.mark.parametrize(
    "text",
    [
        "",
        "enabled = 1",
        CRON.format(enabled="true"),
        "datasets = []\nevery = 5" + CRON.format(enabled="true"),
        CRON.format(enabled="true") + DATASET.format(input="a", output="x") + DATASET.format(input="b", output="x"),
        "[",
    ],
)
def test_a_cron_file_that_is_wrong_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "cron.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"cron\.toml"):
        load_schedule(tmp_path / "cron.toml")
