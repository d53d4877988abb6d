"""The driver: a run on Modal, from a request to a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jobs import resources
from jobs.fan_out import fan_out_to_containers
from jobs.meter import ContainerMeter
from jobs.request import Request, check_code, configured, find_input
from jobs.volume import ModalVolume
from pipeline.dataset import Store
from pipeline.driver import Budget, estimate, make_plan, run, saying
from pipeline.errors import IncompleteError, PipelineError


def drive(request: Mapping[str, Any], *, began_at: float) -> dict[str, Any]:
    """Run a request and report how it ended; an error made on purpose is part of the report.

    `began_at`, in seconds since the epoch, is when the driver's own time began; `unfinished` says that it was up
    before the work was.
    """
    return _reported(lambda asked: _drive(asked, began_at), request)


def plan(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of a request, or the error that keeps it from being made."""
    return _reported(_plan, request)


def _reported(work: Callable[[Request], dict[str, Any]], request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        asked = msgspec.convert(request, Request)
        check_code(asked)
        return work(asked)
    except msgspec.ValidationError as error:
        said = f"app {resources.DRIVER_APP}: expected a request of its own version, found: {error}; deploy it again"
        return {"exit_code": 2, "error": said}
    except PipelineError as error:
        return {"exit_code": error.exit_code, "error": str(error)}


def _plan(request: Request) -> dict[str, Any]:
    source = find_input(request)
    config, _ = configured(request, is_run=False)
    store = Store(root=resources.OUTPUT / request.output)
    return {"exit_code": 0, **estimate(make_plan(source, store, config, request.options), store, config)}


def _drive(request: Request, began_at: float) -> dict[str, Any]:
    source = find_input(request)
    config, on_dtype = configured(request)
    volume = ModalVolume()
    store = Store(root=resources.OUTPUT / request.output, volume=volume)
    until = began_at + config.modal.driver_hours * resources.HOURS
    fan_out = fan_out_to_containers(request, config, store, volume.lock(store.root), until)
    outcome = run(source, store, config, fan_out=saying(on_dtype, fan_out), options=request.options)
    record = outcome.run
    shortfall = outcome.shortfall()
    return {
        "exit_code": IncompleteError.exit_code if shortfall else 0,
        "error": shortfall and f"output {request.output}: {shortfall}",
        "unfinished": bool(record.missing_chunks and record.embedded_now and time.time() >= until),
        **outcome.totals,
        **msgspec.to_builtins(record),
    }
