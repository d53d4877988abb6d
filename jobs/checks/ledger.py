"""The ledger of a preflight: it decides what still fits the budget, and keeps what was found and spent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from jobs import resources
from jobs.checks.record import CheckRecord, State, StepRecord, key, read_from_here, write_from_here
from pipeline.config import Config
from pipeline.errors import IncompleteError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a step found, what that means, and whether a run can live with it."""

    found: Mapping[str, Any]
    means: Sequence[str]
    is_well: bool = True
    is_over: bool = True  # False: there is nothing to find yet
    measured: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))  # fields of CheckRecord


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The record of one check, written to the volume whenever it changes: a preflight may be killed at any time."""

    config: Config
    path: str  # of the config, below the repository
    max_usd: float
    check: CheckRecord

    @contextmanager
    def renting(self, *, usd_per_s: float, expected_s: float) -> Iterator[None]:
        """Count what a container costs while it is called; raises IncompleteError where that might pass the budget."""
        usd = usd_per_s * expected_s
        self.check_budget(usd)
        self._change(usd_open=usd)
        began = time.monotonic()
        try:
            yield
        finally:
            self._change(usd=self.check.usd + usd_per_s * (time.monotonic() - began), usd_open=0.0)

    def check_budget(self, usd: float) -> None:
        """Raise IncompleteError where so much more might pass the budget."""
        if self.check.usd + usd > self.max_usd:
            raise IncompleteError(
                f"--max-usd {self.max_usd:,.2f}: ${self.check.usd:,.3f} is spent and what follows may take "
                f"${usd:,.3f}; type the same with a greater --max-usd to go on from here"
            )

    def begin(self, step: str) -> None:
        """Record that a step has begun."""
        self._put(step, "begun")

    def end(self, step: str, finding: Finding) -> None:
        """Record what a step found."""
        self.check = msgspec.structs.replace(self.check, **finding.measured)
        state: State = "waiting" if not finding.is_over else "well" if finding.is_well else "ill"
        self._put(step, state, found=dict(finding.found), means=tuple(finding.means))

    def fail(self, step: str, error: Exception) -> None:
        """Record that a step came to no finding."""
        self._put(step, "failed", means=(str(error) or type(error).__name__,))

    def _put(self, step: str, state: State, **more: Any) -> None:
        self._change(steps=self.check.steps | {step: StepRecord(state=state, at=time.time(), **more)})

    def _change(self, **changes: Any) -> None:
        self.check = msgspec.structs.replace(self.check, **changes)
        record = read_from_here()
        checks = record.checks | {key(self.config, self.config.modal.gpu): self.check}
        write_from_here(msgspec.structs.replace(record, checks=checks))


def open_ledger(config: Config, path: str, max_usd: float) -> Ledger:
    """Return the ledger of a config, as an earlier preflight with this code left it.

    What was under way when that one was killed counts as if it had taken as long as expected.
    """
    code = resources.code_digest()
    check = read_from_here().checks.get(key(config, config.modal.gpu))
    if check is None or (check.code, check.config) != (code, path):
        check = CheckRecord(config=path, code=code)
    check = msgspec.structs.replace(check, usd=check.usd + check.usd_open, usd_open=0.0)
    return Ledger(config=config, path=path, max_usd=max_usd, check=check)
