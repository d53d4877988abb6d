"""The estimate: what a survey says a run will take."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset import Store
from pipeline.driver.plan import Plan
from pipeline.driver.reuse import reusable_vectors, share_missing
from pipeline.worker import Job


def estimate(survey: Plan, store: Store, config: Config) -> dict[str, Any]:
    """Return the object of `plan --json`: counts over the chunks still to be made.

    The interval of tokens is two standard errors of the sampled mean to either side. A line file counts its lines.
    A text with a vector in a part that is being replaced counts as no tokens.
    """
    job = Job(root=survey.corpus.root, columns=survey.corpus.columns, config=config)
    shares = share_missing(survey.chunks, job, reusable_vectors(survey, store))
    tokens = sum(
        survey.density.n_tokens(chunk.span) * share for chunk, share in zip(survey.chunks, shares, strict=True)
    )
    margin = 2 * survey.density.spread * tokens
    return {
        "input_rows": sum(chunk.span.n_rows for chunk in survey.chunks),
        "chunks": len(survey.chunks),
        "tokens": round(tokens),
        "tokens_low": round(max(0.0, tokens - margin)),
        "tokens_high": round(tokens + margin),
        "engine_hours": None,
        "cost_usd": None,
    }
