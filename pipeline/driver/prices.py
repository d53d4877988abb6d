"""Prices of what Modal rents by the second, as its list had them on one day."""

from __future__ import annotations

import re

from pipeline.errors import ConfigError

LISTED = "October 2026"  # when the prices below were last compared
SOURCE = "modal.com/pricing, as public repositories quote it; `modal billing rates` has those of an account"

USD_PER_GPU_S = {  # by Modal's name; a region that is pinned costs 1.5 to 1.75 times as much
    "T4": 0.000164,
    "L4": 0.000222,
    "A10": 0.000306,
    "A10G": 0.000306,
    "L40S": 0.000542,
    "A100": 0.000583,  # Modal may give 80 GB, at the price of 40
    "A100-40GB": 0.000583,
    "A100-80GB": 0.000694,
    "RTX-PRO-6000": 0.000842,
    "H100": 0.001097,
    "H200": 0.001261,
    "B200": 0.001736,
    "B300": 0.001972,
}
USD_PER_CORE_S = 0.0000131  # of a physical core
USD_PER_GIB_S = 0.00000222  # of memory
SERVICE_CPUS = 4  # of a container with an engine: two chunks are read, tokenised and compressed beside it
GPU_MEMORY_MIB = 32 * 1024  # of one with a GPU: the weights of an engine that sleeps are here
NONPREEMPTIBLE = 3.0  # times the price of the same container that may be preempted


def container_usd_per_s(gpu: str, *, n_cpus: float, memory_gib: float) -> float:
    """Return what a container with a GPU, such as "H100:2" ("" = none), costs a second.

    Modal bills whichever is more of the cores and the memory that were asked for and those that were used; these are
    asked for. Raises ConfigError for a GPU without a listed price.
    """
    price = _usd_per_gpu_s(gpu)
    if price is None:
        raise ConfigError(
            f"modal.gpu: expected a GPU of the list of prices ({', '.join(USD_PER_GPU_S)}; {LISTED}), found {gpu!r}; "
            "say in modal.usd_per_hour what a container with it costs"
        )
    return price + n_cpus * USD_PER_CORE_S + memory_gib * USD_PER_GIB_S


def is_listed(gpu: str) -> bool:
    """Whether a GPU, such as "A100-80GB", "H100!:2" or "" for none, has a listed price."""
    return _usd_per_gpu_s(gpu) is not None


def _usd_per_gpu_s(gpu: str) -> float | None:
    name, _, count = gpu.upper().partition(":")
    price = USD_PER_GPU_S.get(name.rstrip("!+")) if gpu else 0.0
    return price * int(count or "1") if price is not None and re.fullmatch("[0-9]{0,3}", count) else None
