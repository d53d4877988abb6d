"""The budget of a run: no chunk is handed out that might pass `--max-usd`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.dataset import Receipt
from pipeline.driver import Meter

FIRST_CHUNK_S = 120.0  # that a chunk is taken to need of a container before one has been seen
FIRST_START_S = 300.0  # likewise the start of a container


@dataclass(slots=True, kw_only=True)
class Budget:
    """Decides before each chunk whether it still fits; what is in flight is paid for in any case.

    A chunk is taken to cost as much as the dearest so far. Until a container is up, its start and the time that it
    idles at the end count as well.
    """

    max_usd: float  # infinity: no limit
    meter: Meter
    usd_per_s: float  # of a container
    idle_s: float  # that a container stays after its last call
    n_containers: int
    n_in_flight: int = 0
    dearest_s: float = 0.0
    kept_back: bool = False  # the chunk that it was asked for last

    def fits_one_more(self) -> bool:
        """Whether one more chunk fits."""
        if math.isinf(self.max_usd):
            return True
        self.kept_back = self._spent_usd() + (self.n_in_flight + 1) * self.chunk_usd > self.max_usd
        return not self.kept_back

    def count(self, outcome: object) -> None:
        """Count a chunk that is no longer in flight, and what it took if it came to a receipt."""
        self.n_in_flight -= 1
        if isinstance(outcome, Receipt):
            self.dearest_s = max(self.dearest_s, outcome.engine_s)

    def in_words(self) -> str:
        """Return what was spent, and why no other chunk is embedded."""
        return (
            f"--max-usd {self.max_usd:,.2f}: ${self.meter.spent_usd():,.2f} is spent, the idle time of the containers "
            f"included, and one more chunk would take about ${self.chunk_usd:,.2f}"
        )

    @property
    def chunk_usd(self) -> float:
        """What a chunk is taken to cost."""
        return self.usd_per_s * (self.dearest_s or FIRST_CHUNK_S)

    def _spent_usd(self) -> float:
        start_usd = self.n_containers * self.usd_per_s * (FIRST_START_S + self.idle_s)
        return max(self.meter.spent_usd(), 0.0 if self.dearest_s else start_usd)
