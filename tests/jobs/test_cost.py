"""What a run says it cost, against what the control plane has seen of its containers."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import msgspec
import pytest

from jobs.checks.record import CheckRecord, PreflightRecord, StepRecord
from jobs.meter import DRIVER_USD_PER_S
from tests.modal_loopback import KillAtInput
from tests.support import status
from tests.support.modal_jobs import CLASS, ROWS, House, house, needs_plane, replace_in

pytestmark = needs_plane
IDLE_S = 4
USD_PER_HOUR = 360.0  # a lot, as a few cents are recorded


def spent_usd(home: House) -> float:
    """Return what Modal would bill for the service and the driver, once every container has gone."""
    seen = home.plane.seen
    while any(one.ended_s is None for name in (CLASS, "drive") for one in seen.of(name)):
        threading.Event().wait(0.05)
    service_s, driver_s = (
        sum((one.ended_s or one.started_s) - one.started_s for one in seen.of(name)) for name in (CLASS, "drive")
    )
    return service_s * USD_PER_HOUR / 3600 + driver_s * DRIVER_USD_PER_S


@pytest.mark.parametrize("n_containers", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("times", "unseen_s"), [(1, 1.0), pytest.param(4, 0.0, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_what_a_run_says_it_cost_is_what_its_containers_took(
    tmp_path: Path, n_containers: int, times: int, unseen_s: float
) -> None:
    """Within 2 %; one container is killed at work, and of a single one the driver hands over on the way as well.

    A container does not see how long its process takes to start and to end, which counts in a short run.
    """
    fault = KillAtInput(on=CLASS, nth=4 * n_containers, after_s=0.2)
    hours = 12.0 * times / 3600 if n_containers == 1 else 22.0
    modal = f"driver_hours = {hours}\nusd_per_hour = {USD_PER_HOUR}"
    with house(tmp_path, chunk_tokens=1000, faults=[fault], modal=modal, scaledown_factor=1.0) as home:
        home.engine(0.5 * times * n_containers)
        replace_in(home, "jobs/resources.py", "SERVICE_IDLE_S = 5 * MINUTES", f"SERVICE_IDLE_S = {IDLE_S}")
        replace_in(home, "jobs/resources.py", "DRIVER_IDLE_S = 10", "DRIVER_IDLE_S = 2")
        replace_in(home, "jobs/containers.py", "BEAT_S = 5.0", "BEAT_S = 0.25")
        replace_in(home, "jobs/meter.py", "READ_EVERY_S = 5.0", "READ_EVERY_S = 0.0")
        assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        assert home.modal("deploy", "jobs/embed_corpus.py").returncode == 0
        home.run("--input", "books/", "--max-containers", str(n_containers))
        home.check_complete("books", tmp_path / "out", ROWS)
        assert home.plane.faults.fired
        assert len(home.plane.seen.of(CLASS)) == n_containers + 1
        assert (home.plane.seen.inputs_finished["drive"] > 1) == (n_containers == 1)
        said, found = status(tmp_path / "out")["cost_usd"], spent_usd(home)
        unseen_usd = unseen_s * (n_containers + 1) * USD_PER_HOUR / 3600
        assert abs(said - found) <= 0.02 * found + unseen_usd, (said, found)


def test_what_a_dry_run_says_is_what_the_containers_take(tmp_path: Path) -> None:
    """Within a fifth, once a run was measured; a container takes as long to start as those of that run took."""
    modal = f"usd_per_hour = {USD_PER_HOUR}"
    with house(tmp_path, chunk_tokens=1000, modal=modal, scaledown_factor=1.0) as home:
        home.engine(0.5)
        replace_in(home, "jobs/resources.py", "SERVICE_IDLE_S = 5 * MINUTES", f"SERVICE_IDLE_S = {IDLE_S}")
        replace_in(home, "jobs/resources.py", "DRIVER_IDLE_S = 10", "DRIVER_IDLE_S = 2")
        assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        assert home.modal("deploy", "jobs/embed_corpus.py").returncode == 0
        home.run("--input", "books/", "--output", "first")
        first, before = status(home.dataset("first", tmp_path / "first")), spent_usd(home)
        start_s = before * 3600 / USD_PER_HOUR - first["engine_s"] - IDLE_S
        check = CheckRecord(
            config="configs/hashing.toml",
            code="",
            steps={"engine": StepRecord(state="well", at=1_790_000_000)},
            tokens_per_s=first["engine_tokens"] / first["engine_s"],
            start_s=start_s,
        )
        record = tmp_path / "record/preflight.json"
        record.parent.mkdir()
        record.write_bytes(msgspec.json.encode(PreflightRecord(checks={"hashing by hashing on CPU": check})))
        home.plane.seed("embedding-output", record.parent, version=2)
        said = home.run("--input", "books/", "--output", "second", "--dry-run")
        [usd] = re.findall(r"on CPU, \$([\d.]+) in all", " ".join(said.split()))
        home.run("--input", "books/", "--output", "second")
        found = spent_usd(home) - before
        assert abs(float(usd) - found) <= 0.2 * found, (usd, found)
