"""Speed: how fast models were found to be on this machine, kept for the next plan in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

import msgspec
import pyarrow as pa

from pipeline.config import ENGINES, Config
from pipeline.dataset import Run
from pipeline.driver.rate import Rate
from pipeline.errors import OutputError
from pipeline.files import publish_file

LEAST_S = 2.0  # of the engine: of less a speed is not worth keeping
CPUINFO = Path("/proc/cpuinfo")


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found."""

    tokens_per_s: float
    at: float  # seconds since the epoch
    load_s: float = 0.0  # that the model took to load


def keep_speed(config: Config, run: Run) -> None:
    """Keep what a run of this machine found, unless it was too short; without a place for it nothing is kept."""
    if run.engine_s < LEAST_S or not ENGINES[config.engine.kind].needs_weights:
        return
    found = Speed(tokens_per_s=run.engine_tokens / run.engine_s, at=time.time(), load_s=run.load_s)
    speeds = _speeds() | {_key(config): found}
    with contextlib.suppress(OutputError):  # an estimate is no reason to end a run
        publish_file(_path(), pa.py_buffer(msgspec.json.encode(speeds)))


def known_rate(config: Config) -> Rate | None:
    """Return what the last run of this model on this machine found; None where there was none."""
    speed = _speeds().get(_key(config))
    if speed is None or not speed.tokens_per_s > 0:
        return None
    day = time.strftime("%Y-%m-%d", time.gmtime(speed.at))
    return Rate(tokens_per_s=round(speed.tokens_per_s, 1), source=f"measured on this machine, {day}")


def last_load_s(config: Config) -> float:
    """Return how long the model took to load the last time; 0 where that is not known."""
    speed = _speeds().get(_key(config))
    return speed.load_s if speed else 0.0


def _speeds() -> dict[str, Speed]:
    with contextlib.suppress(OSError, msgspec.MsgspecError):  # a cache that is not there, or is none of ours
        return msgspec.json.decode(_path().read_bytes(), type=dict[str, Speed])
    return {}


def _path() -> Path:
    """Return the file, in the folder of the XDG base directory specification."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "embed-corpus" / "speeds.json"


def _key(config: Config) -> str:
    """Return what a speed depends on: the model, its arithmetic and its longest text, the engine and the machine."""
    model = config.model
    named = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text() if CPUINFO.exists() else "", re.MULTILINE)
    machine = f"{os.cpu_count()} x {named[1] if named else 'processor'}"
    return " / ".join((model.name, str(model.dtype), str(model.max_tokens), config.engine.kind, machine))
