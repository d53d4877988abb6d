"""What happened, as data: the plane appends, tests read."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True, kw_only=True)
class ContainerSeen:
    """One container's life; times are seconds of `time.time()`, `pid` can be signalled from the test."""

    task_id: str
    app: str
    function: str
    function_id: str
    gpu: str  # that it was started with; "" = none
    nonpreemptible: bool = False
    pid: int = 0
    started_s: float
    ready_s: float | None = None
    ended_s: float | None = None
    exit_code: int | None = None
    why: str = "running"
    inputs: int = 0
    peak_rss_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSeen:
    """One serialised input or output; `blob` when it travelled over HTTP instead of inline."""

    function: str
    direction: Literal["input", "output"]
    size_bytes: int
    blob: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSeen:
    """One published commit; `function` is empty for an upload from outside."""

    volume: str
    function: str
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Seen:
    """Counters of inputs are keyed by "driver" or "Embedder.embed", those of containers by "driver" or "Embedder"."""

    rpcs: Counter[str] = field(default_factory=Counter)
    unimplemented: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    containers: list[ContainerSeen] = field(default_factory=list)
    payloads: list[PayloadSeen] = field(default_factory=list)
    commits: list[CommitSeen] = field(default_factory=list)
    inputs_started: Counter[str] = field(default_factory=Counter)
    inputs_finished: Counter[str] = field(default_factory=Counter)
    max_commits: Counter[str] = field(default_factory=Counter)  # of a volume at once
    max_containers: Counter[str] = field(default_factory=Counter)
    max_busy: Counter[str] = field(default_factory=Counter)  # containers with an input at once
    max_inputs: Counter[str] = field(default_factory=Counter)

    def of(self, function: str) -> list[ContainerSeen]:
        """Return the containers of a function or class, oldest first."""
        return [container for container in self.containers if container.function == function]

    def peak_rss_bytes(self, function: str) -> int:
        return max((container.peak_rss_bytes for container in self.of(function)), default=0)

    def sizes(self, direction: Literal["input", "output"], function: str) -> list[int]:
        return [p.size_bytes for p in self.payloads if (p.direction, p.function) == (direction, function)]
