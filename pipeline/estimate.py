"""The estimate: what a survey says a run will take."""

from __future__ import annotations

from typing import Any

from pipeline.survey import Survey


def estimate(survey: Survey) -> dict[str, Any]:
    """Return the object of `plan --json`: counts over the chunks still to be made.

    The interval of tokens is two standard errors of the sampled mean to either side. A line file counts its lines.
    """
    tokens = sum(survey.density.n_tokens(chunk.span) for chunk in survey.chunks)
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
