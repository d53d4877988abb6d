"""Watch a run on Modal from a terminal; the run neither needs nor notices it."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import modal
import msgspec
from modal.output import OutputManager

from jobs import resources
from jobs.containers import containers_since
from jobs.volume import progress_in
from pipeline.console import LOADING, Progress, repeating, screen_on_stderr

ASK_EVERY_S = 2.0
TICK_S = 1.0


def watch(call: modal.FunctionCall[dict[str, Any]], output: str) -> dict[str, Any]:
    """Show how far a run is until it ends, in however many calls, and return its report.

    Ctrl-C ends the watching, and says how the run itself is stopped.
    """
    print(f"embedding into {output} as call {call.object_id}, which goes on when this terminal closes")
    print(f"  {call.get_dashboard_url()}")
    print(f"  modal app logs {resources.DRIVER_APP}; of the engine: modal app logs {resources.SERVICE_APP}", flush=True)
    try:
        with watching(output) as view:
            while True:
                try:
                    report = call.get(timeout=ASK_EVERY_S)
                except TimeoutError:
                    view.ask()
                    continue
                if "goes_on_as" not in report:
                    return report
                call = modal.FunctionCall.from_id(report["goes_on_as"])
    except KeyboardInterrupt:
        stop = f"python -c 'import modal; modal.FunctionCall.from_id(\"{call.object_id}\").cancel()'"
        print(f"the run goes on, and costs money; this stops it:\n  {stop}", file=sys.stderr)
        raise


class View:
    """What is known in this terminal of the run of an output."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._began_at = time.time()
        self._seen = Progress(phase="starting the driver", phase_at=self._began_at)
        self._behind_s = math.inf  # how far what is seen is behind the clock here, at least

    def ask(self) -> None:
        """Ask how far the run is."""
        found = progress_in(resources.locks.get(self._output))
        if found is not None and found.phase == LOADING:
            found = msgspec.structs.replace(found, phase=_start_in_words(self._began_at, self._output))
        if found is not None:
            self._seen, self._behind_s = found, min(self._behind_s, time.time() - found.at)

    def look(self) -> Progress:
        """Return how far the run is now, as far as its clock goes on since it was asked for."""
        behind_s = self._behind_s if self._seen.at else 0.0
        return msgspec.structs.replace(self._seen, at=time.time() - behind_s)


@contextlib.contextmanager
def watching(output: str) -> Iterator[View]:
    """Show on stderr what a view of an output sees, every second, in place of what Modal turns there."""
    view = View(output)
    OutputManager.get().stop_status_spinner()
    with screen_on_stderr() as shown, repeating(lambda: shown.show(view.look()), TICK_S, "watch"):
        shown.show(view.look())
        yield view


def _start_in_words(began_at: float, output: str) -> str:
    """Return what the newest container does that may work for the output."""
    records = [one for one in containers_since(began_at) if not one.outputs or output in one.outputs]
    if not records:
        return "waiting for a container"
    newest = max(records, key=lambda record: record.started_at)
    return f"{LOADING} on {newest.gpu or 'a container without a GPU'}"
