"""This very container, as Modal started it: its id, its GPU, what is paid for."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from pathlib import Path

from google.protobuf.message import DecodeError
from modal_proto import api_pb2

from jobs.containers import ContainerRecord
from pipeline.engines import MadeBy


def task() -> str:
    """Return Modal's id of this container; a process that is restored from a snapshot has that of its new one."""
    return os.environ.get("MODAL_TASK_ID", "")


def snapshot_follows() -> bool:
    """Whether this container is to be snapshotted: Modal sets the variable then, and in an app that is not deployed it
    takes none. The client goes by the same (modal._container_entrypoint)."""
    return os.environ.get("MODAL_ENABLE_SNAP_RESTORE") == "1"


def made_by() -> MadeBy:
    """Return what makes vectors here."""
    return MadeBy(container=task(), gpu=_arguments().function_def.resources.gpu_config.gpu_type)


def record(config: str, started_at: float) -> ContainerRecord:
    """Return the record of this container, which started at `started_at`, in seconds since the epoch."""
    definition = _arguments().function_def
    return ContainerRecord(
        task=task(),
        app=_arguments().app_id,
        config=config,
        gpu=definition.resources.gpu_config.gpu_type,
        n_cpus=definition.resources.milli_cpu / 1000,
        memory_gib=definition.resources.memory_mb / 1024,
        idle_window_s=definition.autoscaler_settings.scaledown_window or definition.task_idle_timeout_secs,
        started_at=started_at,
        seen_at=time.time(),
    )


@functools.cache
def _arguments() -> api_pb2.ContainerArguments:
    """Return what this container was started with: its app, and the function with what a variant of it asks for.

    It is what the client itself is started with; where it cannot be read, nothing is known.
    """
    arguments = api_pb2.ContainerArguments()
    with contextlib.suppress(KeyError, OSError, DecodeError):
        arguments.ParseFromString(Path(os.environ["MODAL_CONTAINER_ARGUMENTS_PATH"]).read_bytes())
    return arguments
