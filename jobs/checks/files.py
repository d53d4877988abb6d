"""Step: what a file and a commit are on a volume, of either version; CPU only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modal

from jobs import resources
from jobs.buckets import Mounts
from jobs.checks.ledger import Finding, Ledger
from jobs.resources import MINUTES
from pipeline.config import Config
from pipeline.driver import container_usd_per_s

app = modal.App("embedding-preflight-files")  # of its own, so that nobody else makes the volumes
NAMES = {version: f"embedding-preflight-v{version}" for version in (1, 2)}
VOLUMES = {
    version: modal.Volume.from_name(name, create_if_missing=True, version=version) for version, name in NAMES.items()
}
MOUNTS: Mounts = {f"/scratch/v{version}": volume for version, volume in VOLUMES.items()}
ONE_CPU: dict[str, Any] = {"image": resources.driver_image, "volumes": MOUNTS, "cpu": 1, "timeout": 20 * MINUTES}
N_FILES = (10, 1_000, 10_000)  # of one commit each
EXPECTED_S = 300.0
USD_PER_S = container_usd_per_s("", n_cpus=1, memory_gib=0.5)
UPLOADED, OWN = "uploaded", "own"
WHOLE_S = 1_000_000_000  # ns


@app.function(**ONE_CPU)
def write_files() -> dict[str, dict[str, Any]]:
    """Write, replace, commit and reload on each volume; say how long it takes, and what dates the files have."""
    return {f"v{version}": _write(Path(f"/scratch/v{version}"), volume) for version, volume in VOLUMES.items()}


@app.function(**ONE_CPU)
def read_files() -> dict[str, dict[str, int]]:
    """Say what dates another container sees."""
    for volume in VOLUMES.values():
        volume.reload()
    return {f"v{version}": _dates(Path(f"/scratch/v{version}")) for version in VOLUMES}


def files_usd(config: Config) -> float:
    """Return what the step is expected to cost."""
    return USD_PER_S * EXPECTED_S


def check_files(ledger: Ledger) -> Finding:
    """Compare dates between containers, and time files and commits; the two volumes are deleted after."""
    for volume in VOLUMES.values():
        with volume.batch_upload(force=True) as batch:
            batch.put_file(os.fspath(Path(__file__)), UPLOADED)
    with app.run(), ledger.renting(usd_per_s=USD_PER_S, expected_s=EXPECTED_S):
        found = write_files.remote()
        for version, dates in read_files.remote().items():
            found[version]["dates_elsewhere"] = dates
    for name in NAMES.values():
        modal.Volume.objects.delete(name, allow_missing=True)
    return files_found(found)


def files_found(found: dict[str, dict[str, Any]]) -> Finding:
    """Return what was seen on each volume, and what it means for a run."""
    means, is_well = [], True
    for version, seen in found.items():
        is_same, in_words = _compared(seen)
        is_well &= is_same
        means += [f"{version}: {in_words}", f"{version}: {_speed(seen)}"]
    return Finding(found=found, means=means, is_well=is_well)


def _write(mount: Path, volume: modal.Volume) -> dict[str, Any]:
    found: dict[str, Any] = {"dates": _dates(mount)}
    temporary, own = mount / "temporary", mount / OWN
    temporary.write_bytes(b"x" * 4096)
    found["fsync_file"] = _timed(lambda: _sync(temporary))
    found["replace"] = _timed(lambda: temporary.replace(own))
    found["fsync_folder"] = _timed(lambda: _sync(mount))
    written = own.stat().st_mtime_ns
    volume.commit()
    committed = own.stat().st_mtime_ns
    volume.reload()
    found["own_dates"] = {"written": written, "committed": committed, "reloaded": own.stat().st_mtime_ns}
    found["commit_s"], n_files = {}, 0
    for n in N_FILES:
        folder = mount / str(n)
        folder.mkdir(exist_ok=True)
        for number in range(n):
            (folder / f"{number:05}").write_bytes(b"x")
        found["commit_s"][str(n)] = _timed(volume.commit)["s"]
        n_files += n
    (mount / "one more").write_bytes(b"x")
    found["commit_of_one_more_s"] = _timed(volume.commit)["s"]
    found["n_files"] = n_files
    return found


def _dates(mount: Path) -> dict[str, int]:
    return {name: (mount / name).stat().st_mtime_ns for name in (UPLOADED, OWN) if (mount / name).exists()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _timed(work: Callable[[], object]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        work()
    except OSError as error:
        return {"s": round(time.perf_counter() - began, 4), "error": str(error)}
    return {"s": round(time.perf_counter() - began, 4)}


def _compared(seen: dict[str, Any]) -> tuple[bool, str]:
    """Return whether a file has one date in whole seconds wherever it is seen, and that in words."""
    own = {seen["own_dates"][when] for when in ("committed", "reloaded")} | {seen["dates_elsewhere"][OWN]}
    uploaded = {seen["dates"][UPLOADED], seen["dates_elsewhere"][UPLOADED]}
    n_kinds = max(len({date // WHOLE_S for date in dates}) for dates in (own, uploaded))
    if n_kinds > 1:
        return False, "a file has other dates in other containers: a run would take its input for changed; report this"
    if max(len(own), len(uploaded)) > 1:
        return True, "dates agree in whole seconds alone, which is what the jobs compare"
    return True, "a file has the same date in all containers, before and after a commit"


def _speed(seen: dict[str, Any]) -> str:
    failed = [name for name in ("fsync_file", "fsync_folder") if "error" in seen[name]]
    without = f"; {' and '.join(failed)} fail, and the jobs do without" if failed else ""
    commits = ", ".join(f"{s:.2f} s with {int(n):,} new files" for n, s in seen["commit_s"].items())
    return (
        f"a commit takes {commits}; one more file beside {seen['n_files']:,} takes "
        f"{seen['commit_of_one_more_s']:.2f} s: what each part costs its container{without}"
    )
