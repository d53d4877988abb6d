"""Keep datasets fresh: at each tick of configs/cron.toml, embed what changed.

modal deploy jobs/reembed.py
"""

import time
from typing import Any

import modal

from jobs import driver, embedding_service, hub, resources
from jobs.request import Request, named_inputs, packed
from jobs.resources import HOURS
from jobs.schedule import load_schedule
from pipeline.config import load_config
from pipeline.console import in_one_line
from pipeline.corpus import each_of
from pipeline.dataset import describe_run
from pipeline.driver import RunOptions
from pipeline.errors import IncompleteError, OutputLockedError

app = modal.App("embedding-reembed").include(embedding_service.app).include(hub.app)
SCHEDULE = load_schedule(resources.REPOSITORY / "configs/cron.toml")
for dataset in SCHEDULE.datasets:  # a config that is wrong is found when this is deployed, not at night
    load_config(resources.REPOSITORY / dataset.config, dim=dataset.dim or None)
    named_inputs(",".join(each_of(dataset.input)))


@app.function(
    image=resources.driver_image,
    volumes=resources.driver_volumes,
    schedule=modal.Cron(SCHEDULE.schedule, timezone=SCHEDULE.timezone) if SCHEDULE.enabled else None,
    timeout=24 * HOURS,
    cpu=resources.DRIVER_CPUS,
    scaledown_window=resources.DRIVER_IDLE_S,
    nonpreemptible=True,
)
def reembed() -> None:
    """Bring every dataset up to date; raises IncompleteError at the end when one is not, so that Modal tells you."""
    began_at = time.time()
    failed = []
    for dataset in SCHEDULE.datasets:
        request = Request(
            input=dataset.input,
            output=dataset.output,
            config=dataset.config,
            dim=dataset.dim,
            own_class=True,
            options=RunOptions(prune=dataset.prune),
        )
        try:
            report = driver.drive(packed(request), began_at=began_at)
        except Exception as error:  # noqa: BLE001  whatever it is, the other datasets have their turn
            report = {"exit_code": 1, "error": f"unexpected {type(error).__name__}: {error}"}
        print(in_one_line(_describe(dataset.output, report)))
        if report["exit_code"] not in (0, OutputLockedError.exit_code):
            failed.append(f"{dataset.output}: {report['error']}")
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(SCHEDULE.datasets)} datasets are not up to date. {'; '.join(failed)}"
        )


def _describe(output: str, report: dict[str, Any]) -> str:
    if report["exit_code"] == OutputLockedError.exit_code:
        return f"{output}: left alone: {report['error']}"
    if report["exit_code"]:
        return f"{output}: failed: {report['error']}"
    return "; ".join(describe_run(report, output, rented=True))
