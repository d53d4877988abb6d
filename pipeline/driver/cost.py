"""Cost: what a run will take, and what one took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.config import Config
from pipeline.dataset import Receipt, Store
from pipeline.driver.plan import Plan
from pipeline.driver.removal import removal
from pipeline.driver.reuse import reusable_vectors, share_missing
from pipeline.worker import Job


def estimate(plan: Plan, store: Store, config: Config) -> dict[str, Any]:
    """Return the object of `plan --json`: counts over the chunks still to be made.

    The interval of tokens is two standard errors of the sampled mean to either side.
    A text with a vector in a part that is being replaced counts as no tokens.
    """
    job = Job(root=plan.corpus.root, columns=plan.corpus.columns, config=config)
    shares = share_missing(plan.chunks, job, reusable_vectors(plan, store))
    tokens = sum(plan.density.n_tokens(chunk.span) * share for chunk, share in zip(plan.chunks, shares, strict=True))
    leaving = removal(plan, store)
    margin = 2 * plan.density.spread * tokens
    return {
        "input_rows": sum(chunk.span.n_rows - chunk.span.n_blank for chunk in plan.chunks),
        "chunks": len(plan.chunks),
        "tokens": round(tokens),
        "tokens_low": round(max(0.0, tokens - margin)),
        "tokens_high": round(tokens + margin),
        "removed_rows": leaving.rows,
        "removed_files": len(leaving.sources),
        "engine_hours": None,
        "cost_usd": None,
    }


def cost_usd(made: Sequence[Receipt], last_at: float, config: Config) -> float:
    """Return the price of the seconds that the engines were held; `last_at` is when the last receipt came."""
    return round(_engine_held_s(made, last_at) / 3600 * config.modal.usd_per_hour, 4)


def engine_busy(made: Sequence[Receipt], last_at: float) -> float | None:
    """Return the engine's seconds as a share of those it was held; None where no engine was needed."""
    held_s = _engine_held_s(made, last_at)
    return round(sum(receipt.engine_s for receipt in made) / held_s, 4) if held_s else None


def _engine_held_s(made: Sequence[Receipt], last_at: float) -> float:
    """Return the seconds from each engine's being ready to the last receipt, summed over the engines."""
    return sum(max(0.0, last_at - ready_at) for ready_at in {r.engine_ready_at for r in made if r.engine_calls})
