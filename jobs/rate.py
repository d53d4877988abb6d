"""What a preflight found of the engine of a run: its rate, the chunks that follow, and whether a snapshot pays."""

from __future__ import annotations

import dataclasses
import datetime

from jobs.checks.record import CheckRecord, measured
from jobs.pool import idle_s, usd_per_s
from jobs.request import Request
from pipeline.config import Config
from pipeline.driver import Rate


def found_rate(request: Request, config: Config) -> Rate | None:
    """Return the rate that a preflight found for the model of a run on its GPU; None where there was none."""
    gpu = request.gpu or config.modal.gpu
    check = measured(config, gpu)
    if check is None or not check.tokens_per_s:
        return None
    n_containers = request.max_containers or config.modal.max_containers
    return Rate(
        tokens_per_s=check.tokens_per_s,
        source=f"preflight of {_day(check)} on {gpu or 'CPU'}",
        usd_per_s=usd_per_s(config, gpu),
        idle_s=n_containers * ((check.start_s or check.load_s) + idle_s(request)),
    )


def sized(config: Config, rate: Rate | None) -> Config:
    """Return a config whose chunks take about as long as they should at a rate, where one is known."""
    if rate is None:
        return config
    return dataclasses.replace(config, run=dataclasses.replace(config.run, chunk_tokens=rate.chunk_tokens))


def _day(check: CheckRecord) -> str:
    return f"{datetime.datetime.fromtimestamp(check.steps['engine'].at, datetime.UTC):%Y-%m-%d}"
