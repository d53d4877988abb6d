"""A run under way is killed, copied and raced, again and again: nothing is lost, doubled or paid for twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.dataset import lock
from tests.support import HASHING, embed_corpus, ids, status, texts, write_jsonl, write_parquet
from tests.support.sabotage import FakedCommand

SEED = 11
N_RACERS = 10
WAITS = "time.sleep(0.03 * (len(token_ids) > 1))"
PATIENCE_S = 60  # for what comes after a hundredth of a second


def corpus(folder: Path, n_rows: int) -> Path:
    """Return shards of all kinds, with a row to reject in each hundred."""
    rows = [row if i % 100 else {"id": row["id"], "text": " "} for i, row in enumerate(texts(n_rows))]
    third = n_rows // 3
    write_parquet(folder / "a.parquet", rows[:third], row_group_size=1000)
    write_jsonl(folder / "b.jsonl", rows[third : 2 * third])
    write_jsonl(folder / "c.jsonl.gz", rows[2 * third :])
    return folder


def check_complete(output: Path, n_rows: int) -> None:
    verified = embed_corpus("verify", output, "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["rejected_rows"] == -(-n_rows // 100)
    assert sorted(ids(output)) == sorted(f"doc-{i}" for i in range(n_rows) if i % 100)


def wait_for_texts(faked: FakedCommand, process: subprocess.Popen[str], n_texts: int = 1) -> None:
    """Wait until the engine of a run has been given more texts."""
    wanted = faked.embedded() + n_texts
    while faked.embedded() < wanted:
        assert process.poll() is None, "the run was over too early"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("kills", "n_rows"), [(10, 7_500), pytest.param(200, 100_000, marks=pytest.mark.slow)], ids=["10", "200"]
)
def test_random_kills_cost_the_two_chunks_in_flight_and_no_part_that_was_published(
    tmp_path: Path, kills: int, n_rows: int
) -> None:
    """Each run is killed at random after a part or two of its own; counted by what the engines were given, which
    includes what a killed process never reported."""
    faked = FakedCommand(tmp_path / "faked", WAITS)
    source, output = corpus(tmp_path / "in", n_rows), tmp_path / "out"
    chunk_rows = 250
    more = ("--set", f"run.chunk_tokens={chunk_rows * 12}", "--set", "engine.batch_passages=125")
    chance = random.Random(SEED)
    for _ in range(kills):
        wanted = set(parts(output)), chance.choice((1, 1, 2))
        with faked.start("run", "--input", source, "--output", output, *HASHING, *more) as process:
            while len(set(parts(output)) - wanted[0]) < wanted[1]:
                assert process.poll() is None, "the job was done before all kills were"
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.06))  # about a chunk, so the job outlasts all kills
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "the job was done before all kills were"
    there = parts(output)
    assert len(there) >= kills
    n_texts, n_there = n_rows - n_rows // 100, sum(pq.read_metadata(part).num_rows for part in there)
    done = faked.run(source, output, *more)
    assert done.returncode == 0, done.stderr
    check_complete(output, n_rows)
    assert status(output)["embedded_now"] == n_texts - n_there
    assert faked.embedded() <= n_texts + 2 * chunk_rows * kills


def parts(output: Path) -> list[Path]:
    return sorted((output / "data").glob("part-*.parquet"))


@pytest.mark.parametrize("copies", [3, pytest.param(24, marks=pytest.mark.slow)])
def test_a_copy_taken_at_any_moment_of_a_run_resumes_to_the_whole_dataset(tmp_path: Path, copies: int) -> None:
    faked = FakedCommand(tmp_path / "faked", WAITS)
    n_rows = 1_000 * copies
    source, output = corpus(tmp_path / "in", n_rows), tmp_path / "out"
    more = ("--set", "run.chunk_tokens=2000", "--set", "engine.batch_passages=10")
    chance = random.Random(SEED)
    orders = itertools.cycle(itertools.permutations(["rejects", "data", "."]))
    with faked.start("run", "--input", source, "--output", output, *HASHING, *more) as process:
        for i in range(copies):
            wait_for_texts(faked, process, chance.randint(60, 160))
            copy(output, tmp_path / f"copy-{i}", next(orders), lambda: wait_for_texts(faked, process, 60))
        assert process.poll() is None, "the run was over before all copies were taken"
        process.kill()
    faked.engine("")
    for i in range(copies):
        done = faked.run(source, tmp_path / f"copy-{i}", *more)
        assert done.returncode == 0, done.stderr
        check_complete(tmp_path / f"copy-{i}", n_rows)


def copy(output: Path, destination: Path, order: Sequence[str], wait: Callable[[], None]) -> None:
    """Copy as a backup does, which is no snapshot: one folder after the other, each as it is when its turn comes."""
    for name in order:
        (destination / name).mkdir(parents=True, exist_ok=True)
        for path in (output / name).iterdir():
            with contextlib.suppress(FileNotFoundError):  # a temporary file that was renamed meanwhile
                if path.is_file():
                    shutil.copy2(path, destination / name / path.name)
        wait()


def test_of_ten_runs_at_once_one_works_and_when_it_is_killed_the_next_takes_over(tmp_path: Path) -> None:
    faked = FakedCommand(tmp_path / "faked", WAITS)
    source, output, n_rows = corpus(tmp_path / "in", 6_000), tmp_path / "out", 6_000
    arguments = ("run", "--input", source, "--output", output, *HASHING, "--set", "engine.batch_passages=10")
    racers = [faked.start(*arguments) for _ in range(N_RACERS)]
    while sum(racer.poll() is None for racer in racers) > 1:
        time.sleep(0.01)
    [owner] = [racer for racer in racers if racer.poll() is None]
    for racer in racers:
        if racer is not owner:
            _, error = racer.communicate()
            assert racer.returncode == 4, error
            assert f"another run holds {output}: process {owner.pid} on host " in error
            assert len(error.splitlines()) == 1
    wait_for_texts(faked, owner)
    owner.kill()
    owner.communicate()
    assert {int(line.split()[0]) for line in faked.log.read_text().splitlines()} == {owner.pid}
    os.utime(output / ".lock")  # the dead one was heard of a moment ago, and is not waited for
    assert faked.run(source, output).returncode == 0
    check_complete(output, n_rows)


@pytest.mark.parametrize(("age_s", "code"), [(0, 4), (lock.STALE_S - 10, 4), (lock.STALE_S + 10, 0)])
def test_a_holder_on_another_machine_is_known_by_its_beat(tmp_path: Path, age_s: float, code: int) -> None:
    """On a shared file system where the other machine's flock is not seen."""
    source = write_jsonl(tmp_path / "in.jsonl", texts(10))
    path = tmp_path / "out/.lock"
    path.parent.mkdir()
    path.write_text('{"host": "elsewhere", "pid": 7, "boot": "another"}')
    os.utime(path, (time.time() - age_s,) * 2)
    done = embed_corpus("run", "--input", source, "--output", path.parent, *HASHING)
    assert done.returncode == code, done.stderr
    assert code == 0 or f"holds {path.parent}: process 7 on host elsewhere; wait" in done.stderr
    assert path.read_text() == "" if code == 0 else "elsewhere" in path.read_text()


def test_a_holder_goes_on_beating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    path, touch, n_touched = tmp_path / lock.NAME, os.utime, threading.Semaphore(0)

    def watched(file: int) -> None:
        touch(file)
        n_touched.release()

    with lock.flock(tmp_path):
        monkeypatch.setattr(os, "utime", watched)
        for _ in range(3):
            touch(path, (0, 0))
            while n_touched.acquire(blocking=False):  # beats that may have come before
                pass
            assert n_touched.acquire(timeout=PATIENCE_S)
            assert n_touched.acquire(timeout=PATIENCE_S), "the beat after it began when the file was old"
            assert path.stat().st_mtime > 0
