"""`modal run jobs/preflight.py` on the plane: what it finds, writes and costs, and that it goes on after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.checks.bill import bill_found
from jobs.checks.files import files_found
from jobs.checks.record import CheckRecord, PreflightRecord, StepRecord
from pipeline.driver import container_usd_per_s
from tests.support.modal_jobs import House, house, needs_plane, shorten_preflight

pytestmark = needs_plane
KEY = "hashing by hashing on CPU"
FREE = ["files", "images", "weights", "crash"]
SECONDS = 1_000_000_000  # ns


def billed_usd_per_s(resources: Any) -> float:
    gpu, n_cpus, gib = resources.gpu_config.gpu_type, resources.milli_cpu / 1000, resources.memory_mb / 1024
    return container_usd_per_s(gpu, n_cpus=n_cpus, memory_gib=gib)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    """Yield a house in which a preflight has fewer files to write and fewer starts to wait for."""
    with house(tmp_path, chunk_tokens=0, usd_per_s=billed_usd_per_s, scaledown_factor=0.2) as home:
        shorten_preflight(home)
        yield home


def preflight(home: House, *arguments: str, code: int) -> str:
    done = home.modal("run", "jobs/preflight.py", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_of(home: House) -> dict[str, Any]:
    file = home.plane.committed("embedding-output").get("preflight.json")
    found: dict[str, Any] = json.loads(file.read_text())["checks"][KEY] if file else {"steps": {}}
    return found


def states(home: House) -> dict[str, str]:
    return {name: step["state"] for name, step in check_of(home)["steps"].items()}


def killed_when(home: House, is_time: Callable[[], bool]) -> None:
    """Start a preflight and kill it, with all of its processes, once it is time."""
    command = [sys.executable, "-m", "modal", "run", "jobs/preflight.py"]
    variables = home.plane.env | {"EMBED_CONFIG": "configs/hashing.toml"}
    with subprocess.Popen(command, cwd=home.folder, env=variables, start_new_session=True) as process:
        while not is_time():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_preflight_is_killed_on_its_way_and_goes_on(home: House) -> None:
    """First the half without a GPU, which the whole of it does not repeat; then a kill; then there is a bill."""
    said = preflight(home, "--cpu", code=0)
    assert states(home) == dict.fromkeys(FREE, "well")
    assert re.findall(r"^\d/4 (\w+): .*: about \$0\.0\d\d$", said, re.MULTILINE) == FREE
    assert home.plane.seen.of("try_engine") == []
    assert not any(one.gpu for one in home.plane.seen.containers)

    killed_when(home, lambda: len(home.plane.seen.of("WithSnapshot")) > 0)
    assert states(home) == dict.fromkeys(FREE, "well") | {"engine": "well", "snapshot": "begun"}
    open_usd = check_of(home)["usd_open"]
    before_usd = check_of(home)["usd"]
    assert open_usd > 0

    said = preflight(home, code=0)
    assert states(home) == dict.fromkeys([*FREE, "engine", "snapshot"], "well") | {"bill": "waiting"}
    assert check_of(home)["usd"] > before_usd + open_usd, "what was under way counts as spent"
    assert said.count("as it was found before") == len(FREE) + 1
    assert [len(home.plane.seen.of(name)) for name in ("write_files", "look_at_service", "try_engine")] == [1, 1, 1]
    assert "type the same some time after it" in said

    home.plane.bill_ahead(3600)
    said = preflight(home, code=0)
    bill = check_of(home)["steps"]["bill"]
    assert bill["state"] == "well"
    assert bill["found"]["billed_usd"] > bill["found"]["reckoned_usd"] > 0
    assert "`cost_usd` says what is paid" in said

    found = check_of(home)
    assert found["tokens_per_s"] > 0
    assert found["steps"]["snapshot"]["found"]["least_cosine"] > 0.999999
    assert len(found["steps"]["snapshot"]["found"]["with_s"]) == 2
    assert found["steps"]["crash"]["found"]["n_starts"] >= 4, "as many as it waits for, and those that came meanwhile"
    while any(one.ended_s is None for one in home.plane.seen.of("NeverStarts")):
        time.sleep(0.05)
    listed = json.loads(home.modal("app", "list", "--json").stdout)
    deployed = [
        app["state"] for app in listed if app["description"] in ("embedding-preflight", "embedding-preflight-crash")
    ]
    assert deployed
    assert set(deployed) == {"stopped"}


def test_nothing_is_rented_above_the_budget(home: House) -> None:
    said = preflight(home, "--max-usd", "0.001", code=3)
    assert "--max-usd 0.00: $0.000 is spent and what follows may take $0.004; type the same" in said
    assert home.plane.seen.containers == []
    assert "expected dollars over 0, found 0.0" in preflight(home, "--max-usd", "0", code=2)


def test_a_bill_that_is_off_is_found() -> None:
    containers = [{"from": 100.0, "to": 700.0, "usd_per_s": 0.001}, {"from": 800.0, "to": 1200.0, "usd_per_s": 0.001}]
    assert bill_found(1.0, containers).is_well
    assert bill_found(1.05, containers).is_well
    off = bill_found(1.2, containers)
    assert not off.is_well
    assert "Modal bills $1.2000 for containers that reckon with $1.0000: `cost_usd` is off by that" in off.means[0]
    assert not bill_found(0.8, containers).is_well


def put_record(home: House, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "preflight.json").write_text(text)
    home.plane.seed("embedding-output", folder, version=2)


def test_a_run_takes_its_chunks_and_its_class_from_a_preflight(home: House, tmp_path: Path) -> None:
    engine = StepRecord(state="well", at=1_790_000_000)
    check = CheckRecord(
        config="configs/hashing.toml",
        code="",
        steps={"engine": engine},
        tokens_per_s=20.0,
        start_s=30.0,
        snapshot=False,
    )
    before = home.run("--input", "books/", "--dry-run")
    put_record(home, tmp_path, msgspec.json.encode(PreflightRecord(checks={KEY: check})).decode())
    said = home.run("--input", "books/", "--dry-run")
    assert (chunks_of(before), "of the engine" in before) == (1, False)
    assert chunks_of(said) > 6
    price = r"about \d+ min \d+ s of the engine on CPU, \$0\.\d\d in all"
    assert re.search(rf"{price}, at 20 tokens/s \(preflight of 2026-09-21 on CPU\)", " ".join(said.split()))

    assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
    said = home.run("--input", "books/")
    assert "no GPU, without a snapshot" in said
    assert home.plane.seen.of("VLLMEmbeddingCPU")
    assert not home.plane.seen.of("VLLMEmbeddingSnapshot")


def test_a_record_that_makes_no_sense_is_said_and_left_alone(home: House, tmp_path: Path) -> None:
    put_record(home, tmp_path, '{"checks": []}')
    said = home.run("--input", "books/", "--dry-run")
    assert "preflight.json: expected what a preflight writes, found" in said
    assert "hours of the engine" not in said


def chunks_of(said: str) -> int:
    [number] = re.findall(r"(\d+) chunks? to make", said)
    return int(number)


@pytest.mark.parametrize(
    ("own", "elsewhere", "is_well", "word"),
    [
        ((5 * SECONDS + 7, 5 * SECONDS + 7), 5 * SECONDS + 7, True, "same date in all"),
        ((5 * SECONDS + 7, 5 * SECONDS), 5 * SECONDS, True, "whole seconds"),
        ((5 * SECONDS, 6 * SECONDS), 6 * SECONDS, False, "would take its input for changed"),
        ((5 * SECONDS, 5 * SECONDS), 9 * SECONDS, False, "would take its input for changed"),
    ],
)
def test_dates_that_move_are_found(own: tuple[int, int], elsewhere: int, is_well: bool, word: str) -> None:
    seen = {
        "dates": {"uploaded": SECONDS},
        "own_dates": {"written": own[0], "committed": own[0], "reloaded": own[1]},
        "dates_elsewhere": {"uploaded": SECONDS, "own": elsewhere},
        "fsync_file": {"s": 0.1},
        "fsync_folder": {"s": 0.1, "error": "Invalid argument"},
        "commit_s": {"10": 0.5},
        "commit_of_one_more_s": 0.7,
        "n_files": 10,
    }
    finding = files_found({"v1": seen})
    assert finding.is_well == is_well
    assert word in finding.means[0]
    assert "fsync_folder fail" in finding.means[1]
