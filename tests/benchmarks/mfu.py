"""Share of the peak and price: what tokens a second come to on a GPU that has a data sheet and a listed price."""

from __future__ import annotations

import re

from pipeline.driver.prices import GPU_MEMORY_MIB, LISTED, SERVICE_CPUS, USD_PER_GPU_S, container_usd_per_s
from pipeline.driver.rate import PEAK_FLOP_PER_S

FORMULA = (
    "MFU = tokens/s x FLOP of a token / peak. A token takes 2 FLOP for each parameter outside the embedding table, as "
    "the config has it; attention is left out, which at 2,048 tokens is 2 to 4 % of a model of 12B. Peaks are those of "
    "NVIDIA's data sheets in bfloat16 without sparsity (T4: float16)."
)
PRICES = f"Dollars are those of a container on Modal: {SERVICE_CPUS} cores, {GPU_MEMORY_MIB >> 10} GiB, {LISTED}."


def modal_name(device: str, memory_mib: int) -> str:
    """Return Modal's name for a GPU that the driver names, such as "NVIDIA A100-SXM4-40GB"; "" where it rents none.

    An A100 is told by its memory.
    """
    words = re.split(r"[\s-]+", device.upper())
    if "A100" in words:
        return "A100-80GB" if memory_mib > 60_000 else "A100-40GB"
    return next((gpu for gpu in USD_PER_GPU_S if gpu in words), "")


def peak_flop_per_s(gpu: str) -> float | None:
    """Return the peak of a GPU by Modal's name; None where it is not known."""
    return PEAK_FLOP_PER_S.get(gpu.split("-")[0])


def mfu(tokens_per_s: float, flop_per_token: float, gpu: str) -> float | None:
    """Return the share of a GPU's peak that tokens a second are; None where the peak is not known. See FORMULA."""
    peak = peak_flop_per_s(gpu)
    return tokens_per_s * flop_per_token / peak if peak else None


def usd_per_million(tokens_per_s: float, gpu: str) -> float | None:
    """Return the dollars of a million tokens in a container with a GPU at work; None where it has no listed price."""
    if gpu not in USD_PER_GPU_S:
        return None
    return 1e6 / tokens_per_s * container_usd_per_s(gpu, n_cpus=SERVICE_CPUS, memory_gib=GPU_MEMORY_MIB / 1024)
