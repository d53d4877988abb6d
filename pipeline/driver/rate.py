"""Rate: how fast an engine was found to be, and what follows for the time and the price of tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

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
UTILISATION = 0.4  # of the peak, that embedding is taken to reach; nobody has measured it here


def assumed_tokens_per_s(gpu: str, flop_per_token: float) -> float:
    """Return how fast a model is taken to be on a GPU, such as "A100-40GB", before it is measured; 0 where its peak is
    not known."""
    name = re.split("[-:!+]", gpu.upper())[0]
    return UTILISATION * PEAK_FLOP_PER_S.get(name, 0.0) / max(flop_per_token, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The speed of an engine at work, and the price of its container."""

    tokens_per_s: float
    source: str  # where and when it was found
    usd_per_s: float
    idle_s: float  # that containers are paid for beside their work: before the first chunk, and after the last


def reckon(tokens: float, rate: Rate | None) -> dict[str, Any]:
    """Return what `plan --json` has of time and price; null where no rate is known."""
    if rate is None:
        return dict.fromkeys(("engine_hours", "cost_usd", "rate_tokens_per_s", "rate_source"))
    engine_s = tokens / rate.tokens_per_s
    paid_s = engine_s + rate.idle_s if tokens else 0.0
    return {
        "engine_hours": round(engine_s / 3600, 4),
        "cost_usd": round(paid_s * rate.usd_per_s, 4),
        "rate_tokens_per_s": rate.tokens_per_s,
        "rate_source": rate.source,
    }
