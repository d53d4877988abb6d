"""What a preflight found of the engine of a run: its rate, which the size of chunks follows."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable

from jobs.checks.record import CheckRecord, measured
from jobs.pool import idle_s, usd_per_s
from jobs.request import Request
from pipeline.config import Config
from pipeline.dataset import Receipt
from pipeline.driver import Rate, RunOptions, assumed_tokens_per_s, measured_speed, rented_rate

START_S = 120.0  # that a container is taken to need until it is ready, before it is measured


def rate_of(request: Request, config: Config, kept: Iterable[Receipt]) -> Rate | None:
    """Return the rate that an estimate goes by: as a preflight found it, else as the parts of the output say that this
    GPU made, else as it is assumed of the GPU."""
    gpu = request.gpu or config.modal.gpu
    tokens_per_s = measured_speed(receipt for receipt in kept if receipt.gpu == gpu)
    if (rate := found_rate(request, config)) or not tokens_per_s:
        return rate or rented_rate(config, gpu, START_S + idle_s(request))
    return _rate(request, config, tokens_per_s, START_S, f"measured on {gpu or 'CPU'}, by the parts of this output")


def found_rate(request: Request, config: Config) -> Rate | None:
    """Return the rate that a preflight found for the model of a run on its GPU; None where there was none."""
    gpu = request.gpu or config.modal.gpu
    check = measured(config, gpu)
    if check is None or not check.tokens_per_s:
        return None
    source = f"preflight of {_day(check)} on {gpu or 'CPU'}"
    return _rate(request, config, check.tokens_per_s, check.start_s or check.load_s, source)


def _rate(request: Request, config: Config, tokens_per_s: float, start_s: float, source: str) -> Rate:
    gpu = request.gpu or config.modal.gpu
    return Rate(
        tokens_per_s=round(tokens_per_s, 1),
        source=source,
        gpu=gpu or "CPU",
        usd_per_s=usd_per_s(config, gpu),
        idle_s=(request.max_containers or config.modal.max_containers) * (start_s + idle_s(request)),
    )


def paced(request: Request, config: Config, rate: Rate | None) -> RunOptions:
    """Return the options of a run with the speed of its engine: as a preflight found it, else as it is assumed."""
    assumed = assumed_tokens_per_s(request.gpu or config.modal.gpu, config.model.flop_per_token)
    return dataclasses.replace(request.options, tokens_per_s=rate.tokens_per_s if rate else assumed)


def _day(check: CheckRecord) -> str:
    return f"{datetime.datetime.fromtimestamp(check.steps['engine'].at, datetime.UTC):%Y-%m-%d}"
