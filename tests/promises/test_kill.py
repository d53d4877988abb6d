"""kill -9 at random moments: the next run ends complete, with every id once and no part half there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.dataset.store import Store
from tests.support import HASHING, command, embed_corpus, ids, status, texts, write_jsonl, write_parquet

SEED = 7


@pytest.mark.parametrize(("kills", "kill_rows"), [(4, 30_000), pytest.param(20, 200_000, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_loses_nothing_and_doubles_nothing(tmp_path: Path, kills: int, kill_rows: int) -> None:
    half = kill_rows // 2
    rows = texts(kill_rows)
    write_parquet(tmp_path / "in/a.parquet", rows[:half], row_group_size=20_000)
    write_jsonl(tmp_path / "in/b.jsonl", rows[half:])
    expected = sorted(row["id"] for row in rows)
    run = ("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    began = time.monotonic()
    assert embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "whole", *HASHING).returncode == 0
    whole_s = time.monotonic() - began
    chance = random.Random(SEED)
    n_killed = 0
    for _ in range(kills):
        with subprocess.Popen(command(*run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                process.wait(chance.uniform(0.1, 0.8) * whole_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        n_killed += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL)
        for part in (tmp_path / "out/data").glob("part-*.parquet"):
            pq.read_table(part)
        before = _embedded(tmp_path / "out")
        done = embed_corpus(*run)
        assert done.returncode == 0, done.stderr
        found = status(tmp_path / "out")
        assert found["state"] == "complete"
        assert found["embedded_now"] == kill_rows - before
        assert sorted(ids(tmp_path / "out")) == expected
        assert embed_corpus("verify", tmp_path / "out").returncode == 0
        for part in (tmp_path / "out/data").iterdir():
            if chance.random() < 0.7:
                part.unlink()  # so that the next round has something to embed
    assert n_killed >= kills // 2


def _embedded(output: Path) -> int:
    return sum(pq.read_metadata(part).num_rows for part in (output / "data").glob("part-*.parquet"))


def test_a_second_run_of_a_held_output_is_refused_with_the_holder_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", texts(10))
    run = ("run", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out", *HASHING)
    assert embed_corpus(*run).returncode == 0
    with Store(root=tmp_path / "out").lock():
        refused = embed_corpus(*run)
        assert refused.returncode == 4
        assert f"process {os.getpid()} on host " in refused.stderr
        assert status(tmp_path / "out")["state"] == "running"
    assert status(tmp_path / "out")["state"] == "complete"
