"""The driver: a run on Modal, from a request to a report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import modal
import msgspec

from jobs import resources
from jobs.budget import Budget
from jobs.fan_out import fan_out_to_containers
from jobs.meter import ContainerMeter
from jobs.pool import choose_pool, idle_s, usd_per_s
from jobs.rate import found_rate, paced, rate_of
from jobs.request import Request, check_code, configured, find_input
from jobs.volume import ModalVolume
from pipeline.console import keep_notes, screen
from pipeline.dataset import Store
from pipeline.driver import estimate, make_plan, run, saying
from pipeline.errors import IncompleteError, PipelineError, UsageError


def drive(request: Mapping[str, Any], *, began_at: float) -> dict[str, Any]:
    """Run a request and report how it ended; an error made on purpose is part of the report, and so are the notes.

    `began_at`, in seconds since the epoch, is when the driver's own time began; `unfinished` says that it was up
    before the work was.
    """
    return _reported(lambda asked: _drive(asked, began_at), request)


def plan(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of a request, or the error that keeps it from being made."""
    return _reported(_plan, request)


def _reported(work: Callable[[Request], dict[str, Any]], request: Mapping[str, Any]) -> dict[str, Any]:
    with keep_notes() as notes:
        try:
            asked = msgspec.convert(request, Request)
            check_code(asked)
            return work(asked) | {"notes": notes}
        except msgspec.ValidationError as error:
            said = f"app {resources.DRIVER_APP}: expected a request of its own version, found: {error}; `make deploy`"
            return {"exit_code": UsageError.exit_code, "error": said, "notes": notes}
        except PipelineError as error:
            return {"exit_code": error.exit_code, "error": str(error), "notes": notes}


def _plan(request: Request) -> dict[str, Any]:
    config, _ = configured(request, is_run=False)
    source = find_input(request)
    resources.output.reload()
    store = Store(root=resources.OUTPUT / request.output)
    options = dataclasses.replace(paced(request, config, found_rate(request, config)), streams=True)
    found = make_plan(source, store, config, options)
    return {"exit_code": 0, **estimate(found, store, config, rate_of(request, config, found.inventory.kept.values()))}


def _drive(request: Request, began_at: float) -> dict[str, Any]:
    config, on_dtype = configured(request)
    source = find_input(request)
    volume = ModalVolume()
    volume.reload()
    options = paced(request, config, found_rate(request, config))
    store = Store(root=resources.OUTPUT / request.output, volume=volume)
    until = began_at + config.modal.driver_hours * resources.HOURS
    gpu = request.gpu or config.modal.gpu
    with _first_call(request, began_at) as run_began_at, screen() as board:
        meter = ContainerMeter(
            began_at=run_began_at,
            output=request.output,
            config=request.config,
            gpu=gpu,
            usd_per_hour=config.modal.usd_per_hour,
        )
        board.watch(meter.work)
        budget = Budget(
            max_usd=request.max_usd,
            meter=meter,
            usd_per_s=usd_per_s(config, gpu),
            idle_s=idle_s(request),
            n_containers=request.max_containers or config.modal.max_containers,
        )
        lock = volume.lock(store.root)
        fan_out = fan_out_to_containers(request, lambda: choose_pool(request, config), store, lock, budget, until)
        outcome = run(source, store, config, fan_out=saying(on_dtype, fan_out), options=options, meter=meter)
    record = outcome.run
    shortfall = outcome.shortfall()
    if record.missing_chunks and budget.kept_back:
        shortfall = f"{shortfall}; {budget.in_words()}"
    return {
        "exit_code": IncompleteError.exit_code if shortfall else 0,
        "error": shortfall and f"output {request.output}: {shortfall}",
        "unfinished": bool(record.missing_chunks and record.embedded_now and time.time() >= until),
        **outcome.totals,
        **msgspec.to_builtins(record),
    }


@contextmanager
def _first_call(request: Request, began_at: float) -> Iterator[float]:
    """Yield when the run began, in seconds since the epoch: in its first call, and there before it was preempted."""
    call = modal.current_function_call_id()
    if request.began_at or call is None:
        yield request.began_at or began_at
        return
    entry = f"call {call} began"
    if not resources.locks.put(entry, began_at, skip_if_exists=True):
        began_at = resources.locks.get(entry)
    yield began_at
    resources.locks.pop(entry, None)
