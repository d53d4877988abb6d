"""Embed a corpus on Modal.

modal deploy jobs/embed_corpus.py
modal run jobs/embed_corpus.py --input wiki/ --dim 1024
"""

import glob
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, NoReturn

import modal

from jobs import driver, embedding_service, hub, resources
from jobs.request import Request, check_relative, named_inputs, packed, signed
from jobs.resources import HOURS
from jobs.watch import watch
from pipeline.config import load_config
from pipeline.console import in_one_line, note
from pipeline.corpus import SCHEME, address_of
from pipeline.dataset import describe_plan, describe_run
from pipeline.driver import RunOptions
from pipeline.errors import PipelineError, UsageError

app = modal.App(resources.DRIVER_APP).include(hub.app)
terminal = modal.App(f"{resources.DRIVER_APP}-terminal")  # of `modal run`: has nothing to build and nothing to rent
if not modal.is_local():
    app.include(embedding_service.app)  # known here, there only where no service is deployed


@app.function(
    image=resources.driver_image,
    volumes=resources.driver_volumes,
    timeout=24 * HOURS,
    retries=modal.Retries(max_retries=3, initial_delay=1.0),
    cpu=resources.DRIVER_CPUS,
    scaledown_window=resources.DRIVER_IDLE_S,
    nonpreemptible=True,  # its end would be that of every chunk in flight
)
def drive(request: dict[str, Any]) -> dict[str, Any]:
    """Run a request; what does not fit into this call's time goes on in a new call, which the report names."""
    began_at = time.time()
    report = driver.drive(request, began_at=began_at)
    if report.get("unfinished"):
        rest = request | {"began_at": request["began_at"] or began_at}
        if report["input"].startswith(SCHEME):
            rest["input"] = report["input"]  # with its commit: a branch may have moved since
        report["goes_on_as"] = drive.spawn(rest).object_id
    return report


@app.function(
    image=resources.download_image,  # a model's settings may come from the hub; its weights need not be there
    secrets=resources.hub_token,
    volumes=resources.driver_volumes,
    timeout=24 * HOURS,  # files of the hub are fetched first
    cpu=resources.DRIVER_CPUS,
    scaledown_window=resources.DRIVER_IDLE_S,
)
def plan(request: dict[str, Any]) -> dict[str, Any]:
    """Estimate a request; rents no GPU."""
    return driver.plan(request)


@terminal.local_entrypoint()
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
    own_pool: bool = False,
    max_usd: float = float("inf"),
    limit: int = 0,
    rebuild: bool = False,
    rehash: bool = False,
    keep_missing: bool = False,
    prune: bool = False,
    skip_bad_files: bool = False,
) -> None:
    """Embed INPUT into OUTPUT on the volume embedding-output.

    INPUT is paths on the volume embedding-corpus or in buckets, between commas, or an address of the Hugging Face hub.
    """
    try:
        below = named_inputs(input)
        name = check_relative("--output", output or _name_after(below))
        if not max_usd > 0:
            raise UsageError(f"--max-usd: expected dollars over 0, found {max_usd}")
        request = Request(
            input=below,
            output=name,
            config=check_relative("--config", config),
            dim=dim,
            id_column=id_column,
            text_column=text_column,
            gpu=gpu,
            max_containers=max_containers,
            own_pool=own_pool,
            max_usd=max_usd,
            options=RunOptions(
                limit=limit or None,
                rebuild=rebuild,
                rehash=rehash,
                keep_missing=keep_missing,
                prune=prune,
                skip_bad_files=skip_bad_files,
            ),
        )
        said = list(_beforehand(request))
    except PipelineError as error:
        _end(error.exit_code, str(error))
    for line in said:
        note(line)
    with _driver(plan if dry_run else drive) as (function, own_class):
        values = packed(signed(request, own_class=own_class))
        report = function.remote(values) if dry_run else watch(function.spawn(values), request.output)
    for line in () if own_class or function in (plan, drive) else report["notes"]:
        note(line)  # of a driver whose log does not come here
    _tell(report, request.output, is_plan=dry_run)


def _beforehand(request: Request) -> Iterator[str]:
    """Yield what is said before anything is rented; raises ConfigError."""
    if licence := load_config(resources.REPOSITORY / request.config).model.licence_notice:
        yield licence
    if isinstance(request.input, str) and request.input.startswith(SCHEME):
        missing = f"what is not on the volume {resources.CORPUS_VOLUME} yet"
        yield f"input {request.input}: {missing} is fetched before a GPU is rented"


def _tell(report: dict[str, Any], output: str, *, is_plan: bool) -> None:
    """Print what was planned, or how a run ended; an error ends the program with its exit code."""
    for source in report.get("skipped_files", ()):
        note(f"skipped {source}")
    if report["exit_code"]:
        _end(report["exit_code"], report["error"])
    fetch = f"modal volume get {resources.OUTPUT_VOLUME} {output}"
    lines = describe_plan(report) if is_plan else describe_run(report, output, next_steps=[fetch], rented=True)
    for line in lines:
        print(in_one_line(line))


@contextmanager
def _driver(function: Any) -> Iterator[tuple[Any, bool]]:
    """Yield a function of the driver as it is deployed, or where it is not, of an app that lasts as long as its calls.

    Either goes on when this terminal closes. Says as well whether a class of the service is in that app, which is so
    where none is deployed.
    """
    name = "plan" if function is plan else "drive"
    deployed = modal.Function.from_name(resources.DRIVER_APP, name)
    if _is_there(deployed):
        yield deployed, False
        return
    own = modal.App(resources.DRIVER_APP).include(app)
    own_class = function is drive and not _is_there(modal.Cls.from_name(resources.SERVICE_APP, resources.SERVICE_CLASS))
    if own_class:
        own.include(embedding_service.app)
    with own.run(detach=True):
        yield function, own_class


def _is_there(deployed: Any) -> bool:
    try:
        deployed.hydrate()
    except modal.exception.NotFoundError:
        return False
    return True


def _name_after(below: str | tuple[str, ...]) -> str:
    """Return the default output name: the last path component without a wildcard, without suffixes.

    Raises UsageError for several paths.
    """
    if not isinstance(below, str):
        raise UsageError(f"--output: expected a name, as there are {len(below)} inputs, found none")
    if below.startswith(SCHEME):
        name, _, path = address_of(below)
        below = path or name
    parts = [part for part in PurePosixPath(below).parts if not glob.has_magic(part)]
    return parts[-1].split(".")[0] if parts else "corpus"


def _end(code: int, error: str) -> NoReturn:
    print("embed-corpus:", in_one_line(error), file=sys.stderr)
    sys.exit(code)
