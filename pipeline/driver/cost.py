"""Cost: what a run will take, and what one took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.config import ENGINES, Config
from pipeline.dataset import Receipt, Store, totals
from pipeline.driver.plan import Plan
from pipeline.driver.rate import Rate, alternatives, rate_here, rented_rate
from pipeline.driver.removal import removal
from pipeline.driver.reuse import reusable_vectors, share_missing
from pipeline.driver.size import bytes_per_row, measured_speed
from pipeline.driver.speed import known_rate
from pipeline.worker import Job


def estimate(plan: Plan, store: Store, config: Config, rate: Rate | None = None) -> dict[str, Any]:
    """Return the object of `plan --json`: what the chunks still to be made come to.

    A text with a vector in a part that is being replaced counts as no tokens. Without a rate hours and dollars are
    null. `parts` and `output_bytes` are of the dataset once it is finished.
    """
    job = Job(root=plan.corpus.root, columns=plan.corpus.columns, config=config)
    shares = share_missing(plan.chunks, job, reusable_vectors(plan, store))
    rows = [sum(each.span.n_rows - each.span.n_blank for each in chunk.spans) for chunk in plan.chunks]
    tokens = tokens_to_make(plan, shares)
    measured, kept = plan.measured, totals(plan.inventory.kept.values())
    of_all = tokens / measured.tokens if measured.tokens else 0.0
    n_chunks = max(len(plan.chunks), plan.n_rest_chunks)
    n_rows = max(sum(rows), plan.n_rest_rows)
    leaving = removal(plan, store)
    new_bytes = n_rows * bytes_per_row(config, plan.inventory.kept.values(), measured)
    return {
        "input_rows": n_rows,
        "chunks": n_chunks,
        "parts": n_chunks + len(plan.inventory.kept),
        "tokens": round(tokens),
        "tokens_low": max(0, round(tokens - of_all * measured.margin)),
        "tokens_high": round(tokens + of_all * measured.margin),
        "passages": round(of_all * measured.passages),
        "truncated_rows": round(of_all * measured.truncated),
        "lost_tokens": round(of_all * measured.lost_tokens),
        "output_bytes": round(kept["size_bytes"] + new_bytes),
        "kept_rows": kept["input_rows"],
        "reused_rows": round(sum(n * (1.0 - share) for n, share in zip(rows, shares, strict=True))),
        "removed_rows": leaving.rows,
        "removed_files": len(leaving.sources),
        "read_in_part": list(measured.beginnings),
        **(rate.of(tokens) if rate else {"engine_hours": None, "cost_usd": None}),
        "rate_tokens_per_s": rate.tokens_per_s if rate else None,
        "rate_source": rate.source if rate else None,
        "gpu": rate.gpu if rate else config.modal.gpu,
        "alternatives": [_alternative(each, tokens) for each in alternatives(config, rate)] if rate else [],
    }


def tokens_to_make(plan: Plan, shares: Sequence[float] = ()) -> float:
    """Return the tokens of the chunks to be made, about, of which the engine has these shares; all without them."""
    if plan.n_rest_rows:
        return plan.rest_tokens
    density = plan.measured.density
    n_tokens = [sum(density.n_tokens(each.span) for each in chunk.spans) for chunk in plan.chunks]
    done = plan.inventory.done()
    is_all = plan.options.limit is None and not any(done.get(shard.source) for shard in plan.corpus.shards)
    scale = plan.measured.tokens / max(sum(n_tokens), 1.0) if is_all else 1.0
    return scale * sum(n * share for n, share in zip(n_tokens, shares or [1.0] * len(n_tokens), strict=True))


def expected(plan: Plan, config: Config) -> dict[str, Any]:
    """Return the tokens of a run and the seconds of its engine, about, by their names in its record; 0 for what is not
    known, and where older parts may have vectors for it."""
    if plan.inventory.reusable(plan.shards):
        return {"estimated_tokens": 0, "estimated_engine_s": 0.0}
    rate, tokens = rate_of(config, plan.inventory.kept.values()), tokens_to_make(plan)
    tokens_per_s = plan.options.tokens_per_s or (rate.tokens_per_s if rate else 0.0)
    engine_s = tokens / tokens_per_s if tokens_per_s else 0.0
    return {"estimated_tokens": round(tokens), "estimated_engine_s": round(engine_s, 3)}


def rate_of(config: Config, kept: Iterable[Receipt]) -> Rate | None:
    """Return the rate that a plan on this machine goes by; None where nothing is known.

    That is what the parts of the dataset say that no container made, else what a run of this machine found, else what
    is assumed of the GPU of the config, else of this processor.
    """
    here = measured_speed(receipt for receipt in kept if not receipt.container)
    if ENGINES[config.engine.kind].needs_weights and here:
        return Rate(tokens_per_s=round(here, 1), source="measured, by the parts of this dataset")
    return known_rate(config) or (rented_rate(config, config.modal.gpu) if config.modal.gpu else rate_here(config))


def _alternative(rate: Rate, tokens: float) -> dict[str, Any]:
    return {"gpu": rate.gpu, **rate.of(tokens), "rate_tokens_per_s": rate.tokens_per_s}


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
    def load_s(self) -> float:
        """How long the run waited for its first engine to be ready."""
        return max(0.0, min((ready_at for _, ready_at in self._until), default=0.0) - self.began_at)

    @property
    def busy(self) -> float | None:
        """The engines' seconds as a share of those they were held; None where no engine was needed."""
        return round(self._engine_s / self.seconds, 4) if self.seconds else None

    def cost_usd(self, usd_per_hour: float) -> float:
        """Return what they cost at the price of one engine, where no meter says more."""
        return self.seconds / 3600 * usd_per_hour
