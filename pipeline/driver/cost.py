"""Cost: what a run will take, and what one took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.config import Config
from pipeline.dataset import Receipt, Store
from pipeline.driver.plan import Plan
from pipeline.driver.rate import Rate, reckon
from pipeline.driver.removal import removal
from pipeline.driver.reuse import reusable_vectors, share_missing
from pipeline.worker import Job


def estimate(plan: Plan, store: Store, config: Config, rate: Rate | None = None) -> dict[str, Any]:
    """Return the object of `plan --json`: counts over the chunks still to be made.

    The interval of tokens is two standard errors of the sampled mean to either side.
    A text with a vector in a part that is being replaced counts as no tokens. Without a rate
    hours and dollars are null.
    """
    job = Job(root=plan.corpus.root, columns=plan.corpus.columns, config=config)
    shares = share_missing(plan.chunks, job, reusable_vectors(plan, store))
    n_tokens = [sum(plan.density.n_tokens(each.span) for each in chunk.spans) for chunk in plan.chunks]
    tokens = sum(n * share for n, share in zip(n_tokens, shares, strict=True))
    leaving = removal(plan, store)
    margin = 2 * plan.density.spread * tokens
    return {
        "input_rows": sum(each.span.n_rows - each.span.n_blank for chunk in plan.chunks for each in chunk.spans),
        "chunks": len(plan.chunks),
        "tokens": round(tokens),
        "tokens_low": round(max(0.0, tokens - margin)),
        "tokens_high": round(tokens + margin),
        "removed_rows": leaving.rows,
        "removed_files": len(leaving.sources),
        **reckon(tokens, rate),
    }


class Meter(Protocol):
    """Says what a run has cost so far."""

    def spent_usd(self) -> float:
        """Return what was spent until now, and what the idle time to come will cost."""
        ...


@dataclass(slots=True)
class Held:
    """How long engines were held for a run: each from its being ready, but not before the run, to its last receipt.

    An engine that was replaced counts for its own time alone.
    """

    began_at: float  # of the run; this and every other time in seconds since the epoch
    _until: dict[tuple[str, float], float] = field(default_factory=dict)  # by container and when it was ready
    _engine_s: float = 0.0

    def add(self, receipt: Receipt, came_at: float) -> None:
        """Count a receipt that came at a time."""
        if receipt.engine_calls:
            self._until[receipt.container, receipt.engine_ready_at] = came_at
            self._engine_s += receipt.engine_s

    @property
    def seconds(self) -> float:
        """The sum over the engines."""
        return sum(max(0.0, until - max(ready_at, self.began_at)) for (_, ready_at), until in self._until.items())

    @property
    def busy(self) -> float | None:
        """The engines' seconds as a share of those they were held; None where no engine was needed."""
        return round(self._engine_s / self.seconds, 4) if self.seconds else None

    def cost_usd(self, usd_per_hour: float) -> float:
        """Return what they cost at the price of one engine, where no meter says more."""
        return self.seconds / 3600 * usd_per_hour
