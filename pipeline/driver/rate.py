"""Rate: how fast an engine was found to be, and what follows for the time and the price of tokens."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config import ENGINES, Config
from pipeline.driver.prices import GPU_MEMORY_MIB, SERVICE_CPUS, container_usd_per_s
from pipeline.errors import ConfigError
from pipeline.model import check_memory

PEAK_FLOP_PER_S = {  # in bfloat16 without sparsity (T4: float16), of NVIDIA's data sheets
    "T4": 65e12,
    "L4": 121e12,
    "A10": 125e12,
    "A10G": 125e12,
    "L40S": 362e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "B300": 2250e12,
}
UTILISATION = 0.4  # of the peak, that embedding is taken to reach; on an H200 it was 0.41 to 0.43: docs/benchmarks.md


IDLE_S = 420.0  # that a container is paid for beside its work: two minutes to start, five until it leaves
FLOP_PER_CORE_S = 40e9  # that a core of a processor is taken to reach in float32; MiniLM was found at 30e9 to 80e9
MOST_TOKENS_PER_S = 160_000.0  # that any engine is taken to reach; MiniLM did on an H200, with vLLM's scheduler at work


def assumed_tokens_per_s(gpu: str, flop_per_token: float) -> float:
    """Return how fast a model is taken to be on a GPU, such as "A100-40GB", before it is measured; 0 where its peak is
    not known."""
    return min(MOST_TOKENS_PER_S, UTILISATION * _peak(gpu) / max(flop_per_token, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The speed of an engine at work, and the price of its container."""

    tokens_per_s: float
    source: str  # where and when it was found
    gpu: str = ""  # "" for none, or for those of this machine
    usd_per_s: float = 0.0
    idle_s: float = 0.0  # that containers are paid for beside their work: before the first chunk, and after the last

    def of(self, tokens: float) -> dict[str, Any]:
        """Return the hours and the dollars that tokens take."""
        engine_s = tokens / self.tokens_per_s
        paid_s = engine_s + self.idle_s if tokens else 0.0
        return {"engine_hours": round(engine_s / 3600, 4), "cost_usd": round(paid_s * self.usd_per_s, 4)}


def rented_rate(config: Config, gpu: str, idle_s: float = IDLE_S) -> Rate | None:
    """Return what is assumed of a container with a GPU; None where its peak or the model's work is not known."""
    tokens_per_s = assumed_tokens_per_s(gpu, config.model.flop_per_token)
    if not tokens_per_s or not config.model.flop_per_token or not ENGINES[config.engine.kind].needs_weights:
        return None
    usd_per_s = config.modal.usd_per_hour / 3600 if gpu == config.modal.gpu else 0.0
    return Rate(
        tokens_per_s=round(tokens_per_s, 1),
        source=f"assumed: {UTILISATION:.0%} of the peak of {gpu}",
        gpu=gpu,
        usd_per_s=usd_per_s or container_usd_per_s(gpu, n_cpus=SERVICE_CPUS, memory_gib=GPU_MEMORY_MIB / 1024),
        idle_s=idle_s,
    )


def rate_here(config: Config) -> Rate | None:
    """Return what is assumed of the processor of this machine; None where the model's work is not known."""
    if not config.model.flop_per_token or not ENGINES[config.engine.kind].needs_weights:
        return None
    n_cores = os.cpu_count() or 1
    return Rate(
        tokens_per_s=round(FLOP_PER_CORE_S * n_cores / config.model.flop_per_token, 1),
        source=f"assumed: {FLOP_PER_CORE_S / 1e9:.0f} GFLOP/s for each of {n_cores} cores; the first run measures it",
    )


def alternatives(config: Config, rate: Rate) -> list[Rate]:
    """Return the rates of two other GPUs that have room for the model, of other speeds: the cheapest for a token.

    Where the rate is a measured one of a GPU, the others are taken to reach the same share of their peak.
    """
    assumed = assumed_tokens_per_s(rate.gpu, config.model.flop_per_token)
    scale = rate.tokens_per_s / assumed if assumed else 1.0
    others = [found for gpu in PEAK_FLOP_PER_S if gpu != rate.gpu and (found := _fitting(config, gpu)) is not None]
    others = [replace(each, tokens_per_s=round(each.tokens_per_s * scale, 1)) for each in others]
    by_price = sorted(others, key=lambda each: each.usd_per_s / each.tokens_per_s)
    distinct = {_peak(each.gpu): each for each in reversed(by_price)}
    return [each for each in by_price if each in distinct.values()][:2]


def _fitting(config: Config, gpu: str) -> Rate | None:
    try:
        check_memory(config, gpu)
    except ConfigError:
        return None
    return rented_rate(config, gpu)


def _peak(gpu: str) -> float:
    return PEAK_FLOP_PER_S.get(re.split("[-:!+]", gpu.upper())[0], 0.0)
