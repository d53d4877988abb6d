"""The knobs of a control plane."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Knobs that hold for a plane's whole life; the defaults are what Modal documents or does."""

    scaledown_factor: float = 1.0
    max_containers: int = 4  # of a function that sets none; Modal's own limit is far higher
    max_deaths_ephemeral: int | None = 3
    max_deaths_deployed: int | None = None  # deployed apps retry a crashing input for ever
    heartbeat_timeout_s: float = 60.0
    orphan_s: float = 120.0
    stop_grace_s: float = 5.0
    background_commit_s: float | None = None
    reload_after_commit: bool = True
    container_env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
