"""Step: whether a container starts sooner from a snapshot, and then embeds the same."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import modal
import numpy as np
from numpy.typing import NDArray

from jobs import resources
from jobs.body import WITH_GPU, WITH_SNAPSHOT, ServiceBody, SnapshotBody
from jobs.checks.deployed import deployed
from jobs.checks.engine import sample_texts
from jobs.checks.ledger import Finding, Ledger
from jobs.containers import ContainerRecord, containers_since
from jobs.pool import usd_per_s
from pipeline.config import Config
from pipeline.driver import container_usd_per_s

APP = "embedding-preflight"
app = modal.App(APP)
IDLE_S = 2  # the least that Modal takes
GONE_S = 60.0 + IDLE_S  # after which a container that does not say that it ends is taken to be gone
ONCE: dict[str, Any] = {"scaledown_window": IDLE_S, "retries": 0}
N_STARTS = {"with": 5, "without": 2}
FIRST_S, NEXT_S = 360.0, 90.0  # expected of the start that makes a snapshot, and of one from it
TEXTS = sample_texts(8)
MIN_COSINE = 0.999


@app.cls(**WITH_SNAPSHOT | ONCE)
@modal.concurrent(max_inputs=2)
class WithSnapshot(SnapshotBody):
    """The class of the service as it is deployed."""

    config: str = modal.parameter(default=resources.CONFIG)
    dtype: str = modal.parameter(default="")


@app.cls(**WITH_GPU | ONCE)
@modal.concurrent(max_inputs=2)
class WithoutSnapshot(ServiceBody):
    """The same without a snapshot."""

    config: str = modal.parameter(default=resources.CONFIG)
    dtype: str = modal.parameter(default="")


def snapshot_usd(config: Config) -> float:
    """Return what the step is expected to cost."""
    if not config.modal.snapshot:
        return 0.0
    return usd_per_s(config, config.modal.gpu) * (FIRST_S * (1 + N_STARTS["without"]) + NEXT_S * N_STARTS["with"])


def check_snapshot(ledger: Ledger) -> Finding:
    """Start containers with and without a snapshot, compare their vectors and the time to the first answer."""
    price = usd_per_s(ledger.config, ledger.config.modal.gpu)
    if not resources.RENTED.snapshot:
        said = "modal.snapshot is false: containers load the model anew each time"
        return Finding(found={}, means=[said], measured={"snapshot": False})
    with deployed(app, APP):
        without = _starts(ledger, WithoutSnapshot(), N_STARTS["without"], price, FIRST_S)
        with_one = _starts(ledger, WithSnapshot(), 1 + N_STARTS["with"], price, NEXT_S, first_s=FIRST_S)
        containers = [_bill(record) for record in _ours(0.0)]  # also of a preflight that was killed here
    slow, fast = statistics.median(without["answer_s"]), statistics.median(with_one["answer_s"][1:])
    expected, *others = (_unit(vectors) for vectors in without["vectors"] + with_one["vectors"])
    least = float(min(np.sum(expected * vectors, axis=1).min() for vectors in others))
    is_same = least >= MIN_COSINE
    pays = is_same and fast < slow
    found = {
        "without_s": without["answer_s"],
        "making_s": with_one["answer_s"][0],
        "with_s": with_one["answer_s"][1:],
        "least_cosine": round(least, 6),
        "app": app.app_id,
        "containers": containers,
    }
    means = [
        f"a first answer comes after {fast:.0f} s from a snapshot and after {slow:.0f} s without one",
        f"the vectors are the same (least cosine {least:.4f})"
        if is_same
        else f"the vectors differ (least cosine {least:.4f}): what wakes from a snapshot embeds otherwise; report this",
    ]
    if not pays:
        means.append("runs take containers without one; for the service set modal.snapshot = false and `make deploy`")
    measured = {"snapshot": pays, "start_s": round(fast if pays else slow, 1)}
    return Finding(found=found, means=means, is_well=is_same, measured=measured)


def _starts(
    ledger: Ledger, service: Any, n: int, usd_per_s: float, expected_s: float, *, first_s: float | None = None
) -> dict[str, list[Any]]:
    """Let a container start n times; return what each took to its first answer, and the answers."""
    answer_s, vectors = [], []
    for turn in range(n):
        seconds = first_s if first_s is not None and turn == 0 else expected_s
        with ledger.renting(usd_per_s=usd_per_s, expected_s=seconds):
            began_at, began = time.time(), time.monotonic()
            vectors.append(service.embed.remote(TEXTS))
            answer_s.append(round(time.monotonic() - began, 2))
            while time.monotonic() - began < answer_s[-1] + GONE_S and any(not one.ended_at for one in _ours(began_at)):
                time.sleep(0.5)  # the next call is to start one
    return {"answer_s": answer_s, "vectors": vectors}


def _unit(vectors: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    found = np.asarray(vectors)
    unit: NDArray[np.float64] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def _ours(since: float) -> list[ContainerRecord]:
    """Return the records of this app's containers that were there at a time, or came later."""
    return [record for record in containers_since(since) if record.app == app.app_id]


def _bill(record: ContainerRecord) -> dict[str, Any]:
    """Return what a container is expected to be billed for."""
    price = container_usd_per_s(record.gpu, n_cpus=record.n_cpus, memory_gib=record.memory_gib)
    return {"from": record.started_at, "to": record.ended_at or record.seen_at, "usd_per_s": price}
