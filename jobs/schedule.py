"""The schedule: which datasets are kept fresh, and when."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.errors import ConfigError


class ScheduledDataset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One dataset: its input as `--input` names it, and its output on the volume."""

    input: str | tuple[str, ...]
    output: str
    config: str
    dim: int = 0
    prune: bool = False  # let more rows go than run.max_removed


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a cron file says."""

    enabled: bool
    schedule: str  # five fields of cron
    timezone: str
    datasets: tuple[ScheduledDataset, ...]


def load_schedule(path: Path) -> Schedule:
    """Read a cron file; raises ConfigError for an unknown key, a wrong type or two datasets with one output."""
    try:
        schedule = msgspec.toml.decode(path.read_bytes(), type=Schedule)
    except OSError as error:
        raise ConfigError(f"schedule {path}: expected a readable TOML file, found {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"schedule {path}: {error}") from error
    outputs = [dataset.output for dataset in schedule.datasets]
    if len(set(outputs)) < len(outputs):
        raise ConfigError(f"schedule {path}: expected an output for each dataset, found one twice in {outputs}")
    return schedule
