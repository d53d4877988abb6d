"""Rate: how fast an engine was found to be, and what follows for the time and the price of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CHUNK_S = 90  # of the engine: what is lost with a container, against what each part costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The speed of an engine at work, and the price of its container."""

    tokens_per_s: float
    source: str  # where and when it was found
    usd_per_s: float
    idle_s: float  # that containers are paid for beside their work: before the first chunk, and after the last

    @property
    def chunk_tokens(self) -> int:
        """The tokens of a chunk that takes CHUNK_S."""
        return max(1, round(self.tokens_per_s * CHUNK_S))


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
