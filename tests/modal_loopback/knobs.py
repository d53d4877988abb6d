"""What a test may set: the settings of a plane, and the faults it is to suffer, as data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from modal_proto import api_pb2 as api


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
    background_commit_s: float | None = 5.0
    commit_s: float = 0.0  # that a commit of changes takes
    commit_s_per_file: float = 0.0  # of the volume, in addition
    reload_after_commit: bool = True
    usd_per_s: Callable[[api.Resources], float] = lambda _: 0.0  # of a container, as it is billed
    reload_s: float = 0.0  # for which a volume is empty, in addition to the time that a reload takes
    max_files: int = 500_000  # and folders and links, in a volume of version 1
    max_files_in_folder: int = 262_144  # in a volume of version 2
    folders_sync: bool = True  # else os.fsync of a folder of a volume fails, as file systems over a network may do
    container_env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    buckets: Mapping[str, Path] = field(default_factory=dict)  # folders that are mounted in the place of buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Fires at the n-th event on `on` since the rule was added, counted from 1; `nth` may be a range.

    For inputs `on` is a function ("driver"), a class ("Embedder") or a method ("Embedder.embed").
    """

    on: str
    nth: int | range = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StrikeAtInput(Rule):
    """Deal a blow, `after_s` seconds into the n-th input, to its container or to those of the function `strikes`.

    An input that has ended by then has nothing to fear.
    """

    after_s: float = 0.0
    strikes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillAtInput(StrikeAtInput):
    """SIGKILL the container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptAtInput(StrikeAtInput):
    """SIGINT to the container, SIGKILL after the grace; its inputs run again elsewhere.

    With `overlap` they do so at once, beside the container in its grace. A nonpreemptible function is spared: that is
    an error of the plane.
    """

    grace_s: float = 30.0
    overlap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropResult(Rule):
    """Lose the n-th result after its work was done, so that it runs again; `kill` takes the container too."""

    kill: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FailCommit(Rule):
    """Refuse the n-th commit of the volume `on`: user code gets a RuntimeError and nothing is published.

    The commits that containers make by themselves when they exit go by "volume@exit" instead.
    """

    message: str = "volume commit refused by a fault rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayAnswer(Rule):
    """Begin `seconds` late with the n-th call of the RPC named `on`."""

    seconds: float


R = TypeVar("R", bound=Rule)


class Faults:
    """The rules in force; a rule may be added while the plane runs, and counts from that moment."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.fired: list[Rule] = []
        self._armed: list[tuple[Rule, Iterator[int]]] = []
        self.add(*rules)

    def add(self, *rules: Rule) -> None:
        self._armed.extend((rule, count(1)) for rule in rules)

    def clear(self) -> None:
        self._armed.clear()

    def due(self, kind: type[R], *names: str) -> list[R]:
        """Count one event that goes by any of `names` and return the rules of this kind that it sets off."""
        due = []
        for rule, events in self._armed:
            if isinstance(rule, kind) and rule.on in names:
                nth = rule.nth if isinstance(rule.nth, range) else (rule.nth,)
                if next(events) in nth:
                    due.append(rule)
        self.fired.extend(due)
        return due
