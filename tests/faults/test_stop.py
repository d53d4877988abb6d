"""Ctrl-C and SIGTERM: a run ends at once, whatever it is doing, says how to go on, and leaves nothing half done."""

from __future__ import annotations

import importlib.util
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.dataset.describe import status
from pipeline.dataset.store import Store
from pipeline.tools.verify import verify
from tests.support import HASHING, REPOSITORY, command, ids, texts, write_jsonl, write_parquet

ROWS = texts(4000)
DEADLINE_S = 60.0  # of what is waited for; a preempted container has 30
GRACE_S = 20.0
GO_ON = "run the same command again to go on from here:\n  python -m pipeline "

Seen = Callable[[Path], bool]


def has_manifest(output: Path) -> bool:
    return (output / "manifest.jsonl").exists()


def has_part(output: Path) -> bool:
    return any((output / "data").glob("part-*.parquet"))


def has_temporary(output: Path) -> bool:
    return any((output / "data").glob(".*.tmp"))


def stop(run: list[str], output: Path, number: int, seen: Seen) -> tuple[int, str, float]:
    """Start a run, send it a signal when something is seen in its output, and return its code, stderr and how long
    that took it."""
    with subprocess.Popen(
        ["env", "--default-signal=INT", *run], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + DEADLINE_S
        while not seen(output):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        process.send_signal(number)
        sent = time.monotonic()
        _, error = process.communicate(timeout=DEADLINE_S)
    return process.returncode, error, time.monotonic() - sent


def check_stopped(output: Path) -> None:
    """Nothing is half done: no temporary file, no damage, and the state says that rows are missing."""
    assert not list(output.rglob(".*.tmp"))
    store = Store(root=output)
    manifest = store.read_manifest()
    assert {problem.kind for problem in verify(store, manifest)[0]} <= {"orphan"}
    assert status(store, manifest)["state"] == "incomplete"
    assert main(["verify", str(output)]) == 3


INT, TERM = (signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)


@pytest.mark.parametrize(
    ("seen", "number", "name", "code"), [(has_manifest, *INT), (has_part, *TERM), (has_temporary, *INT)]
)
def test_a_run_that_is_stopped_says_how_to_go_on_and_goes_on(
    tmp_path: Path, seen: Seen, number: int, name: str, code: int
) -> None:
    write_parquet(tmp_path / "in/a.parquet", ROWS[:2000], row_group_size=500)
    write_jsonl(tmp_path / "in/b.jsonl.gz", ROWS[2000:])
    run = ["run", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *HASHING]
    run += ["--set", "run.chunk_tokens=1000"]
    found, error, took_s = stop(command(*run), tmp_path / "out", number, seen)
    assert found == code
    said = rf"embed-corpus: stopped by {name} while [a-z ]+(; [\d,]+ of 4,000 rows are safe)?\n"
    assert re.fullmatch(rf"{said}{GO_ON}{re.escape(shlex.join(run))}\n", error), error
    assert took_s < GRACE_S
    check_stopped(tmp_path / "out")
    before = len(ids(tmp_path / "out")) if has_part(tmp_path / "out") else 0
    assert before < len(ROWS)
    assert main(run) == 0
    record = Store(root=tmp_path / "out").read_manifest().run
    assert record is not None
    assert record.embedded_now == len(ROWS) - before
    assert sorted(ids(tmp_path / "out")) == sorted(row["id"] for row in ROWS)
    assert main(["verify", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 0


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM has no build for this platform")
@pytest.mark.parametrize(
    ("seen", "number"),
    [(has_manifest, signal.SIGTERM), pytest.param(has_part, signal.SIGINT, marks=pytest.mark.slow)],
    ids=["loading", "embedding"],
)
def test_a_real_engine_is_stopped_while_it_loads_and_while_it_embeds(tmp_path: Path, seen: Seen, number: int) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", texts(20_000))
    run = ("run", "--input", source, "--output", tmp_path / "out", "--set", "run.chunk_tokens=20000")
    found, error, took_s = stop(command(*run), tmp_path / "out", number, seen)
    assert found == 128 + number, error
    assert re.search(rf"\n{GO_ON}", error), error
    assert took_s < GRACE_S
    check_stopped(tmp_path / "out")


def test_a_second_signal_ends_a_process_that_does_not_stop(tmp_path: Path) -> None:
    script = tmp_path / "stuck.py"
    script.write_text(
        "from pathlib import Path\n"
        "from pipeline.console import stoppable\n"
        "with stoppable():\n"
        "    try:\n"
        "        Path('ready').touch()\n"
        "        while True: pass\n"
        "    finally:\n"
        "        Path('stopping').touch()\n"
        "        while True: pass\n"
    )
    with subprocess.Popen(
        ["env", "--default-signal=INT", f"PYTHONPATH={REPOSITORY}", command()[0], script], cwd=tmp_path
    ) as process:
        for mark, number in (("ready", signal.SIGTERM), ("stopping", signal.SIGINT)):
            while not (tmp_path / mark).exists():
                assert process.poll() is None
            process.send_signal(number)
        assert process.wait(DEADLINE_S) == 130
