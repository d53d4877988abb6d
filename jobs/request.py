"""What is asked of a run on Modal, as it travels from a terminal or a schedule to the driver.

Its paths are below a mount: nothing outside it can be named, neither by `..` nor through a link.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from jobs import buckets, hub, resources
from jobs.volume import ModalVolume
from pipeline.chunk import Shard
from pipeline.config import ENGINES, Config, load_config
from pipeline.corpus import SCHEME, Input, address_of, each_of, find_shards
from pipeline.dataset import Store
from pipeline.driver import RunOptions, kept_dtype
from pipeline.errors import UsageError
from pipeline.model import check_memory, describe_dtype, locate, modal_device, pin_and_check, settle_dtype


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be embedded and how, as it travels."""

    input: str | tuple[str, ...]  # below the corpus volume, in a bucket, or an address of the hub
    output: str  # below the output volume
    config: str = resources.CONFIG
    dim: int = 0
    id_column: str = ""
    text_column: str = ""
    gpu: str = ""
    max_containers: int = 0
    own_pool: bool = False  # containers of its own, which go when the run ends
    max_usd: float = math.inf  # a run ends before it has cost that much
    options: RunOptions = RunOptions()
    code: str = ""  # digest of the code and of the config that the request was made with
    own_class: bool = False  # whether the driver's app has the classes of the service, for want of a deployed one
    began_at: float = 0.0  # of the first call of the run, in seconds since the epoch; 0 in that call


def packed(request: Request) -> dict[str, Any]:
    """Return a request as plain values, for the wire."""
    values: dict[str, Any] = msgspec.to_builtins(request)
    return values


def signed(request: Request, *, own_class: bool) -> Request:
    """Return a request for an app with a class or not, with a digest of the code and the config it is made with."""
    return msgspec.structs.replace(request, code=_digest(request.config), own_class=own_class)


def check_code(request: Request) -> None:
    """Raise UsageError for a request that was made with other code, or another config, than is deployed here."""
    if request.code and request.code != _digest(request.config):
        raise UsageError(
            f"app {resources.DRIVER_APP}: expected the code and the {request.config} that this run was started with, "
            "found others: deploy them again, `make deploy`"
        )


def _digest(config: str) -> str:
    path = resources.REPOSITORY / check_relative("--config", config)
    text = path.read_bytes() if path.is_file() else b""
    return hashlib.sha256(resources.code_digest().encode() + text).hexdigest()[:16]


def configured(request: Request, *, is_run: bool = True) -> tuple[Config, str]:
    """Return the config of a request, settled for its GPU, and a line on its dtype if there is something to say.

    A run needs the model's weights on the volume, an estimate only its settings. Raises a PipelineError for what
    would fail on that GPU.
    """
    check_relative("--output", request.output)
    path = check_relative("--config", request.config)
    columns = {"corpus.id": request.id_column, "corpus.text": request.text_column}
    overrides = [f"{key}={json.dumps(column)}" for key, column in columns.items() if column]
    asked = pin_and_check(load_config(resources.REPOSITORY / path, overrides, dim=request.dim or None))
    gpu = request.gpu or asked.modal.gpu
    kept = kept_dtype(asked, Store(root=resources.OUTPUT / request.output), rebuild=request.options.rebuild)
    config = settle_dtype(asked, modal_device(gpu), kept=kept)
    check_memory(config, gpu)
    if is_run and ENGINES[config.engine.kind].needs_weights:
        locate(config.model)  # all of it: a container without the weights would be paid for before it says so
    return config, describe_dtype(asked, config, modal_device(gpu))


def named_inputs(text: str) -> str | tuple[str, ...]:
    """Return what `--input` names, one place or several between commas; raises UsageError for one that cannot be read
    there."""
    found = tuple(_named(each.strip()) for each in text.split(","))
    of_hub = [each for each in found if each.startswith(SCHEME)]
    if of_hub and len(found) > 1:
        raise UsageError(f"--input {of_hub[0]}: expected an address of the hub alone, found {len(found)} inputs")
    return found if len(found) > 1 else found[0]


def _named(place: str) -> str:
    if place.startswith(SCHEME):
        address_of(place)
        return place
    return place if buckets.place_of(place, resources.RENTED.buckets) else check_relative("--input", place)


def find_input(request: Request) -> Input:
    """Return the places of the input as this container sees them now, files of the hub on the volume before that.

    An address of the hub has its commit. Raises UsageError when a path leads out of its mount, and CorpusError.
    """
    places = [_here(each) for each in each_of(request.input)]
    ModalVolume(resources.corpus).reload()
    sources = [source for source, _ in places]
    found_in, shards = find_shards(sources)
    check_inside({mount for _, mount in places}, found_in, shards)
    return sources


def _here(place: str) -> tuple[str, Path]:
    """Return a place of a request as a container has it, and the mount that it is below."""
    if place.startswith(SCHEME):
        return hub.fetched(place), resources.CORPUS
    if bucket := buckets.place_of(place, resources.RENTED.buckets):
        mount, below = bucket
        return str(mount / below), mount
    return str(resources.CORPUS / check_relative("--input", place)), resources.CORPUS


def check_relative(flag: str, path: str) -> str:
    """Return a path that stays below wherever it is put, without a trailing slash; raises UsageError."""
    pure = PurePosixPath(path)
    if path == "-":
        raise UsageError(
            f"{flag} -: expected a path below the volume, found standard input, which is not there; write its lines to "
            f"a file: `modal volume put {resources.CORPUS_VOLUME} lines.jsonl`"
        )
    if "://" in path:
        raise UsageError(f"{flag} {path}: expected a path below the volume, such as wiki/, found an address")
    if not pure.parts or pure.is_absolute() or ".." in pure.parts:
        raise UsageError(f"{flag} {path}: expected a path below the volume, such as wiki/, found one that leaves it")
    return str(pure)


def check_inside(mounts: Collection[Path], root: Path, shards: Sequence[Shard]) -> None:
    """Raise UsageError for the first shard that a link leads out of the mounts."""
    inside = [mount.resolve() for mount in mounts]
    for shard in shards:
        path = root / shard.source
        found = Path(os.path.realpath(path))  # Path.resolve gives up on a link to itself
        if not any(map(found.is_relative_to, inside)):
            name = next((path.relative_to(mount) for mount in mounts if path.is_relative_to(mount)), path)
            raise UsageError(f"--input {name}: expected a file of the volume, found a link out of it")
