"""What a preflight has found, as `preflight.json` on the output volume keeps it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import msgspec

from jobs import resources
from pipeline.config import Config
from pipeline.console import note

NAME = "preflight.json"
FORMAT = 1
State = Literal["begun", "well", "ill", "failed", "waiting"]


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One step: what it found, and what that means."""

    state: State
    at: float  # seconds since the epoch
    found: dict[str, Any] = {}
    means: tuple[str, ...] = ()


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One engine on one GPU: the steps, and what a plan and a run take from them."""

    config: str  # path below the repository
    code: str  # digest of the code that the steps are of
    usd: float = 0.0  # spent
    usd_open: float = 0.0  # that what was under way may have cost, when this was written
    steps: dict[str, StepRecord] = {}
    tokens_per_s: float = 0.0  # of an engine at work; 0 = not measured
    load_s: float = 0.0
    start_s: float = 0.0  # from a call to its answer, where a container has to start, as `snapshot` says
    snapshot: bool | None = None  # whether one starts sooner with a snapshot, and embeds the same; None = not tried


class PreflightRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    format: int = FORMAT
    checks: dict[str, CheckRecord] = {}  # by `key`


def key(config: Config, gpu: str) -> str:
    """Return under which key a file has the check of a model on a GPU ("" = none)."""
    return f"{config.model.name} by {config.engine.kind} on {gpu or 'CPU'}"


def read_from_here() -> PreflightRecord:
    """Return what the volume has, from outside of Modal; a file of another format counts as none."""
    try:
        data = b"".join(resources.output.read_file(NAME))
    except FileNotFoundError:
        return PreflightRecord()
    return _decoded(data)


def write_from_here(record: PreflightRecord) -> None:
    """Write the file, from outside of Modal."""
    data = msgspec.json.format(msgspec.json.encode(record), indent=1)
    with resources.output.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(data + b"\n"), NAME)


def measured(config: Config, gpu: str) -> CheckRecord | None:
    """Return what was found of a model on a GPU, in a container that has the output volume; None where nothing was."""
    path = resources.OUTPUT / NAME
    return _decoded(path.read_bytes()).checks.get(key(config, gpu)) if Path(path).is_file() else None


def _decoded(data: bytes) -> PreflightRecord:
    try:
        record = msgspec.json.decode(data, type=PreflightRecord)
    except (msgspec.MsgspecError, ValueError) as error:
        note(f"{NAME}: expected what a preflight writes, found: {error}; taken as if it were not there")
        return PreflightRecord()
    return record if record.format == FORMAT else PreflightRecord()
