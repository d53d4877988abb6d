"""A limit on what a run costs, kept before each chunk: what is in flight is paid for whether or not there is a limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline.chunk import Chunk
from pipeline.dataset import Receipt, in_usd
from pipeline.driver.cost import Held, Meter
from pipeline.driver.dispatch import Pool
from pipeline.errors import UsageError
from pipeline.worker import Failure


def check_max_usd(amount: float) -> float:
    """Return a limit in dollars, where infinity is none; raises UsageError for what is no amount of money."""
    if not amount >= 0:
        raise UsageError(f"--max-usd {amount}: expected an amount in dollars of 0 or more; leave it out for no limit")
    return amount


@dataclass(slots=True, kw_only=True)
class Budget:
    """Decides before each chunk whether it still fits, and counts for that the chunks that a pool was handed.

    It fits if what was spent, with the idle time to come, and the chunks in flight and itself at their mean price stay
    within the limit. Until the first receipt comes, the price of a chunk and what it takes until a container is ready
    are as expected. After a refusal chunks in flight may turn out cheaper than they were taken for: then it fits.
    """

    max_usd: float  # infinity: no limit
    meter: Meter
    usd_per_s: float  # of a container
    chunk_s: float  # that a chunk is expected to take a container, until one did
    start_usd: float  # that the containers are expected to cost when none does anything: their start and their idle time
    clock: Callable[[], float] = time.time
    _n_in_flight: int = 0
    _n_receipts: int = 0
    _held: Held = field(init=False)

    def __post_init__(self) -> None:
        """Begin to count."""
        self._held = Held(self.clock())

    def may_go_on(self) -> bool:
        """Whether one more chunk fits."""
        if math.isinf(self.max_usd):
            return True
        spent_usd = max(self.meter.spent_usd(), self.start_usd)
        return spent_usd + (self._n_in_flight + 1) * self._chunk_usd() <= self.max_usd

    def over(self, pool: Pool) -> Pool:
        """Return a pool that counts what `pool` is handed, and what comes back."""
        return _Counted(pool=pool, budget=self)

    def in_words(self) -> str:
        """Return what was spent, what the limit is, and what did not fit any more."""
        return (
            f"--max-usd {self.max_usd:,.2f} keeps back what is left: {in_usd(self.meter.spent_usd())} is spent, and one "
            f"more chunk would take about {in_usd(self._next_usd())}"
        )

    def _chunk_usd(self) -> float:
        return self.usd_per_s * (self._held.seconds / self._n_receipts if self._n_receipts else self.chunk_s)

    def _next_usd(self) -> float:
        return self._chunk_usd() + max(0.0, self.start_usd - self.meter.spent_usd())

    def hand_out(self) -> None:
        """Count a chunk that a pool takes."""
        self._n_in_flight += 1

    def land(self, outcome: Receipt | Failure) -> None:
        """Count what a chunk came to."""
        self._n_in_flight -= 1
        if isinstance(outcome, Receipt) and outcome.engine_calls:
            self._n_receipts += 1
            self._held.add(outcome, self.clock())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    pool: Pool
    budget: Budget

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        def counted() -> Iterator[tuple[Chunk, int]]:
            for each in line:
                self.budget.hand_out()
                yield each

        for outcome in self.pool.map(counted()):
            self.budget.land(outcome)
            yield outcome

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        self.budget.hand_out()
        outcome = self.pool.one(chunk, deaths)
        self.budget.land(outcome)
        return outcome
