"""Embed a corpus on Modal.

modal run jobs/embed_corpus.py --input wiki/ --dim 1024
"""

import glob
import sys
import time
from pathlib import PurePosixPath
from typing import Any, NoReturn

import modal
from tqdm import tqdm

from jobs import driver, embedding_service, resources
from jobs.request import Request, check_relative, packed
from jobs.resources import HOURS, MINUTES
from pipeline.config import load_config
from pipeline.console import in_one_line, note
from pipeline.dataset import describe_plan, describe_run
from pipeline.driver import RunOptions
from pipeline.errors import PipelineError

app = modal.App("embed-corpus").include(embedding_service.app)
WATCH_EVERY_S = 2.0


@app.function(
    image=resources.driver_image,
    volumes=resources.driver_volumes,
    timeout=24 * HOURS,
    retries=modal.Retries(max_retries=3, initial_delay=1.0),
    cpu=1,
)
def drive(request: dict[str, Any]) -> dict[str, Any]:
    """Run a request; what does not fit into this call's time goes on in a new call, which the report names."""
    report = driver.drive(request, began_at=time.time())
    if report.get("unfinished"):
        report["goes_on_as"] = drive.spawn(request).object_id
    return report


@app.function(image=resources.driver_image, volumes=resources.driver_volumes, timeout=60 * MINUTES, cpu=1)
def plan(request: dict[str, Any]) -> dict[str, Any]:
    """Estimate a request; rents no GPU."""
    return driver.plan(request)


@app.local_entrypoint()
def main(  # noqa: PLR0913  the flags of `modal run`
    input: str,
    dim: int = 0,
    output: str = "",
    config: str = resources.CONFIG,
    id_column: str = "",
    text_column: str = "",
    dry_run: bool = False,
    gpu: str = "",
    max_containers: int = 0,
    limit: int = 0,
    rebuild: bool = False,
    rehash: bool = False,
    keep_missing: bool = False,
    prune: bool = False,
    skip_bad_files: bool = False,
) -> None:
    """Embed INPUT, a path on the volume embedding-corpus, into OUTPUT on the volume embedding-output."""
    try:
        below = check_relative("--input", input)
        name = check_relative("--output", output or _name_after(below))
        request = Request(
            input=below,
            output=name,
            config=check_relative("--config", config),
            dim=dim,
            id_column=id_column,
            text_column=text_column,
            gpu=gpu,
            max_containers=max_containers,
            options=RunOptions(
                limit=limit or None,
                rebuild=rebuild,
                rehash=rehash,
                keep_missing=keep_missing,
                prune=prune,
                skip_bad_files=skip_bad_files,
            ),
        )
        licence = load_config(resources.REPOSITORY / request.config).model.licence_notice
    except PipelineError as error:
        _end(error.exit_code, str(error))
    if licence:
        note(licence)
    values = packed(request)
    report = plan.remote(values) if dry_run else _watch(drive.spawn(values), request.output)
    for source in report.get("skipped_files", ()):
        note(f"skipped {source}")
    if report["exit_code"]:
        _end(report["exit_code"], report["error"])
    print(in_one_line(describe_plan(report) if dry_run else describe_run(report, output=request.output)))


def _watch(call: modal.FunctionCall[dict[str, Any]], output: str) -> dict[str, Any]:
    """Show how far the run is until it ends, in however many calls, and return its report."""
    print(
        f"embedding into {output} as call {call.object_id}; started with `modal run --detach` it outlives this terminal"
    )
    with tqdm(unit=" rows", disable=None) as bar:
        while True:
            try:
                report = call.get(timeout=WATCH_EVERY_S)
            except TimeoutError:
                _show(bar, resources.locks.get(output) or {})
                continue
            if "goes_on_as" not in report:
                return report
            call = modal.FunctionCall.from_id(report["goes_on_as"])


def _show(bar: Any, entry: dict[str, Any]) -> None:
    bar.total = entry.get("n_rows")
    bar.set_postfix_str(f"{entry.get('tokens', 0):,} tokens", refresh=False)
    bar.update(entry.get("rows", 0) - bar.n)


def _name_after(below: str) -> str:
    """Return the default output name: the last path component without a wildcard, without suffixes."""
    parts = [part for part in PurePosixPath(below).parts if not glob.has_magic(part)]
    return parts[-1].split(".")[0] if parts else "corpus"


def _end(code: int, error: str) -> NoReturn:
    print("embed-corpus:", in_one_line(error), file=sys.stderr)
    sys.exit(code)
