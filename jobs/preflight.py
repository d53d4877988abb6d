"""Find out for cents what only Modal can tell: how its volumes, images, starts, GPUs and bills are in your account.

modal run jobs/preflight.py --cpu
modal run jobs/preflight.py --max-usd 3
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import modal

from jobs import resources
from jobs.body import settled
from jobs.checks.bill import bill_usd, check_bill
from jobs.checks.crash import check_crash, crash_usd
from jobs.checks.engine import check_engine, engine_usd
from jobs.checks.files import check_files, files_usd
from jobs.checks.images import check_images, images_usd
from jobs.checks.ledger import Finding, Ledger, open_ledger
from jobs.checks.record import NAME
from jobs.checks.snapshot import check_snapshot, snapshot_usd
from jobs.checks.weights import check_weights, weights_usd
from pipeline.config import Config
from pipeline.console import in_one_line
from pipeline.errors import IncompleteError, PipelineError, UsageError
from pipeline.model import check_memory

app = modal.App("embedding-preflight-terminal")  # has nothing to rent: each step has an app of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to find out."""

    name: str
    what: str
    usd: Callable[[Config], float]  # that it is expected to cost
    work: Callable[[Ledger], Finding]


FREE = (
    Step(name="files", what="dates, fsync and commits on a volume", usd=files_usd, work=check_files),
    Step(name="images", what="both images and their imports", usd=images_usd, work=check_images),
    Step(name="weights", what="the weights on their volume", usd=weights_usd, work=check_weights),
    Step(name="crash", what="a class that cannot start", usd=crash_usd, work=check_crash),
)
ON_GPU = (
    Step(name="engine", what="load, speed and memory of the engine", usd=engine_usd, work=check_engine),
    Step(name="snapshot", what="starts with and without a snapshot", usd=snapshot_usd, work=check_snapshot),
    Step(name="bill", what="what Modal bills for the step before", usd=bill_usd, work=check_bill),
)
IS_OVER = ("well", "ill")


@app.local_entrypoint()
def main(cpu: bool = False, max_usd: float = 3.0) -> None:
    """Take each step that has not been taken with this code; `--cpu` leaves out those that rent a GPU."""
    try:
        if not max_usd > 0:
            raise UsageError(f"--max-usd: expected dollars over 0, found {max_usd}")
        config = settled(resources.CONFIG)
        check_memory(config, config.modal.gpu)
        ledger = open_ledger(config, resources.CONFIG, max_usd)
        steps = FREE if cpu else FREE + ON_GPU
        print(f"{config.model.name} on {config.modal.gpu or 'CPU'}; ${ledger.check.usd:,.3f} spent so far")
        for number, step in enumerate(steps, 1):
            _take(step, ledger, f"{number}/{len(steps)} {step.name}: {step.what}")
        _conclude(steps, ledger)
    except PipelineError as error:
        print("embed-corpus:", in_one_line(str(error)), file=sys.stderr)
        sys.exit(error.exit_code)


def _take(step: Step, ledger: Ledger, title: str) -> None:
    """Take a step, unless it was taken, and print what it will cost, what it found and what that means."""
    before = ledger.check.steps.get(step.name)
    if before and before.state in IS_OVER:
        print(f"{title}: as it was found before")
    else:
        usd = step.usd(ledger.config)
        print(f"{title}: about ${usd:,.3f}", flush=True)
        ledger.check_budget(usd)
        ledger.begin(step.name)
        try:
            ledger.end(step.name, step.work(ledger))
        except IncompleteError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the other steps have their turn
            ledger.fail(step.name, error)
    after = ledger.check.steps[step.name]
    for line in after.means:
        print(f"    {'' if after.state in ('well', 'waiting') else after.state + ': '}{in_one_line(line)}", flush=True)


def _conclude(steps: tuple[Step, ...], ledger: Ledger) -> None:
    """Print where the findings are; raises IncompleteError where one is missing, or is not as runs need it."""
    print(f"${ledger.check.usd:,.3f} spent; all of it is in {NAME} on the volume {resources.OUTPUT_VOLUME}")
    states = {step.name: ledger.check.steps[step.name].state for step in steps}
    found = ", ".join(f"{name} {state}" for name, state in states.items() if state not in ("well", "waiting"))
    if found:
        raise IncompleteError(f"preflight: expected every step well, found {found}; read above what to do")
