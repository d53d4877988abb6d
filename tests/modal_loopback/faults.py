"""Faults as data: what a test wants to go wrong, where, and at which occurrence."""

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Fires at the n-th event on `on` since the rule was added, counted from 1; `nth` may be a range.

    For inputs `on` is a function ("driver"), a class ("Embedder") or a method ("Embedder.embed").
    """

    on: str
    nth: int | range = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KillAtInput(Rule):
    """SIGKILL the container that took the n-th input, `after_s` seconds into that input."""

    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptAtInput(Rule):
    """Interrupt the container that took the n-th input, SIGKILL it after the grace, requeue its inputs."""

    after_s: float = 0.0
    grace_s: float = 30.0
    signal: int = signal.SIGINT


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

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.fired: list[Rule] = []
        self._armed: list[tuple[Rule, list[str]]] = []
        self.add(*rules)

    def add(self, *rules: Rule) -> None:
        self._armed.extend((rule, []) for rule in rules)

    def clear(self) -> None:
        self._armed.clear()

    def due(self, kind: type[R], *names: str) -> list[R]:
        """Count one event that goes by any of `names` and return the rules of this kind that it sets off."""
        due = []
        for rule, events in tuple(self._armed):
            if isinstance(rule, kind) and rule.on in names:
                events.append(rule.on)
                nth = rule.nth if isinstance(rule.nth, range) else (rule.nth,)
                if len(events) in nth:
                    due.append(rule)
        self.fired.extend(due)
        return due
