"""Step: whether the images are built, and what runs need of them can be imported; CPU only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import modal

from jobs import resources
from jobs.checks.ledger import Finding, Ledger
from jobs.resources import MINUTES
from pipeline.config import ENGINES, Config
from pipeline.driver import container_usd_per_s

app = modal.App("embedding-preflight-images")
OF_DRIVER = ("numpy", "pandas", "pyarrow", "tokenizers", "pipeline.driver")
OF_SERVICE = ("vllm", "torch", "transformers", "flashinfer", "cuda.bindings.runtime", "cuda.core")
MEMORY_MIB = 8 * 1024
EXPECTED_S = 240.0
USD_PER_S = container_usd_per_s("", n_cpus=2, memory_gib=MEMORY_MIB / 1024)
TIMEOUT_S = 300  # of one import


@app.function(image=resources.driver_image, cpu=1, timeout=20 * MINUTES)
def look_at_driver(modules: Sequence[str]) -> dict[str, Any]:
    """Import modules in the driver's image; return what went wrong, by module."""
    return _look(modules)


@app.function(image=resources.service_image, cpu=2, memory=MEMORY_MIB, timeout=40 * MINUTES)
def look_at_service(modules: Sequence[str]) -> dict[str, Any]:
    """Import modules in the service's image; return what went wrong, by module."""
    return _look(modules)


def images_usd(config: Config) -> float:
    """Return what the step is expected to cost, image builds left out, which Modal does not bill."""
    return USD_PER_S * EXPECTED_S


def check_images(ledger: Ledger) -> Finding:
    """Build both images and import what runs need; that a GPU is missing is no reason to fail there."""
    needs_vllm = ENGINES[ledger.config.engine.kind].loads_as_vllm
    with app.run():
        with ledger.renting(usd_per_s=USD_PER_S, expected_s=EXPECTED_S / 5):
            driver = look_at_driver.remote(OF_DRIVER)
        with ledger.renting(usd_per_s=USD_PER_S, expected_s=EXPECTED_S * 4 / 5):
            service = look_at_service.remote((*OF_DRIVER, *OF_SERVICE) if needs_vllm else OF_DRIVER)
    means, is_well = [], True
    for name, found in (("driver", driver), ("service", service)):
        is_well &= not found["failed"]
        for module, error in found["failed"].items():
            means.append(f"image of the {name}: {module} cannot be imported: {error}")
        if found["conflicts"]:
            means.append(f"image of the {name}: packages do not fit together: {found['conflicts']}")
        if not (found["failed"] or found["conflicts"]):
            means.append(f"image of the {name}: all {found['n_modules']} modules can be imported")
    return Finding(found={"driver": driver, "service": service}, means=means, is_well=is_well)


def _look(modules: Sequence[str]) -> dict[str, Any]:
    found = {module: _run("-c", f"import {module}") for module in modules}
    has_pip = _run("-m", "pip", "--version")[0] == 0
    code, said = _run("-m", "pip", "check") if has_pip else (0, "")
    return {
        "failed": {module: said for module, (code, said) in found.items() if code},
        "conflicts": said if code else "",
        "n_modules": len(modules),
    }


def _run(*arguments: str) -> tuple[int, str]:
    """Run this Python, so that a module that crashes it is seen as well; return its code and its last line."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    return done.returncode, lines[-1]
