"""Watch a run on Modal from a terminal; the run neither needs nor notices it."""

from __future__ import annotations

import sys
import time
from typing import Any

import modal
from tqdm import tqdm

from jobs import resources
from jobs.containers import containers_since

EVERY_S = 2.0


def watch(call: modal.FunctionCall[dict[str, Any]], output: str) -> dict[str, Any]:
    """Show how far a run is until it ends, in however many calls, and return its report.

    Ctrl-C ends the watching, and says how the run itself is stopped.
    """
    began_at = time.time()
    print(f"embedding into {output} as call {call.object_id}, which goes on when this terminal closes")
    print(f"  {call.get_dashboard_url()}")
    print(f"  modal app logs {resources.DRIVER_APP}; of the engine: modal app logs {resources.SERVICE_APP}", flush=True)
    try:
        with tqdm(unit=" rows", disable=None) as bar:
            while True:
                try:
                    report = call.get(timeout=EVERY_S)
                except TimeoutError:
                    _show(bar, resources.locks.get(output) or {}, began_at, output)
                    continue
                if "goes_on_as" not in report:
                    return report
                call = modal.FunctionCall.from_id(report["goes_on_as"])
    except KeyboardInterrupt:
        stop = f"python -c 'import modal; modal.FunctionCall.from_id(\"{call.object_id}\").cancel()'"
        print(f"\nthe run goes on, and costs money; this stops it: {stop}", file=sys.stderr)
        raise


def _show(bar: Any, entry: dict[str, Any], began_at: float, output: str) -> None:
    bar.total = entry.get("n_rows")
    state = f"{entry.get('tokens', 0):,} tokens" if entry.get("rows") else _start_in_words(began_at, output)
    bar.set_postfix_str(state, refresh=False)
    bar.update(entry.get("rows", 0) - bar.n)


def _start_in_words(began_at: float, output: str) -> str:
    """Return what the newest container does that may work for the output."""
    records = [one for one in containers_since(began_at) if not one.outputs or output in one.outputs]
    if not records:
        return "planning"
    newest = max(records, key=lambda record: record.started_at)
    done = "ready for" if newest.ready_at else "loading the model for"
    return f"{newest.gpu or 'a container'} {done} {time.time() - (newest.ready_at or newest.started_at):.0f} s"
