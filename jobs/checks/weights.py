"""Step: whether the weights are on their volume, and whole; CPU only."""

from __future__ import annotations

import time

import modal

from jobs import embedding_service
from jobs.checks.ledger import Finding, Ledger
from pipeline.config import ENGINES, Config
from pipeline.driver import container_usd_per_s

DOWNLOAD_CPUS = 4
BYTES_PER_S = 100e6  # of a download with its checks
USD_PER_S = container_usd_per_s("", n_cpus=DOWNLOAD_CPUS, memory_gib=2)
MIN_S = 60.0


def weights_usd(config: Config) -> float:
    """Return what the step is expected to cost."""
    return USD_PER_S * _expected_s(config) if ENGINES[config.engine.kind].needs_weights else 0.0


def check_weights(ledger: Ledger) -> Finding:
    """Download what is not there yet, and hold every file against the hub's hash."""
    if not ENGINES[ledger.config.engine.kind].needs_weights:
        return Finding(found={}, means=["this engine has no weights"])
    own = modal.App("embedding-preflight-weights").include(embedding_service.app)
    began = time.monotonic()
    with own.run(), ledger.renting(usd_per_s=USD_PER_S, expected_s=_expected_s(ledger.config)):
        folder = embedding_service.download_weights.remote(ledger.path)
    took_s = time.monotonic() - began
    in_words = f"all files are there and whole, in {folder}; that took {took_s:.0f} s, and no GPU waits for a download"
    return Finding(found={"folder": folder, "s": round(took_s, 1)}, means=[in_words])


def _expected_s(config: Config) -> float:
    return MIN_S + 2 * config.model.n_parameters / BYTES_PER_S
