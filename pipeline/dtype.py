"""What `model.dtype = "auto"` becomes: bfloat16 where the hardware computes it, else float32."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from pipeline.config import Config, Dtype
from pipeline.notice import notice

# AVX512-BF16 and AMX of x86-64, and BF16 of ARM, as Linux names them in /proc/cpuinfo.
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16_CAPABILITY = 8.0  # compute capability from which vLLM 0.32 takes bfloat16 (platforms/cuda.py)
GPUS_WITHOUT_BFLOAT16 = frozenset({"T4"})  # of those that Modal rents; its compute capability is 7.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What computes vectors, and the dtype in which it is fast."""

    name: str
    dtype: Dtype


def this_device() -> Device:
    """Return the device on which an engine of this process runs: the machine's GPUs, else its processor."""
    if capabilities := _gpu_capabilities():
        return _device("this GPU", has_bfloat16=min(capabilities) >= BFLOAT16_CAPABILITY)
    return _device("this processor", has_bfloat16=bool(BFLOAT16_FLAGS & processor_flags()))


def modal_device(gpu: str) -> Device:
    """Return the device of a Modal container with this GPU.

    Without one it takes float32: which processor a container gets is not known before it starts.
    """
    if not gpu:
        return _device("a container without a GPU", has_bfloat16=False)
    name = gpu.split(":")[0].rstrip("!").upper()
    return _device(f"GPU {gpu}", has_bfloat16=name not in GPUS_WITHOUT_BFLOAT16)


def settle_dtype(config: Config, device: Device, *, kept: Dtype | None = None) -> Config:
    """Return the config with the dtype that "auto" stands for: the one `kept` by an output, else the device's.

    One line on stderr names a dtype that is not bfloat16, or that is slow on the device.
    """
    if config.model.dtype != "auto":
        return config
    if config.engine.kind == "hashing":  # computes in float32 wherever it runs
        return replace(config, model=replace(config.model, dtype=kept or "float32"))
    dtype = kept or device.dtype
    if dtype != device.dtype:
        notice(f"model.dtype auto is {dtype} as in the output; on {device.name} {device.dtype} would be faster")
    elif dtype != "bfloat16":
        notice(f"model.dtype auto is {dtype}: {device.name} does not compute bfloat16")
    return replace(config, model=replace(config.model, dtype=dtype))


def processor_flags() -> frozenset[str]:
    """Return the instruction sets of this processor under Linux's names; empty where none can be read."""
    if sys.platform == "darwin":
        has_bf16 = _output_of("sysctl", "-n", "hw.optional.arm.FEAT_BF16").strip() == "1"
        return frozenset({"bf16"} if has_bf16 else ())
    return flags_in(CPUINFO.read_text()) if CPUINFO.exists() else frozenset()


def flags_in(cpuinfo: str) -> frozenset[str]:
    """Return the flags that all processors of a /proc/cpuinfo have; x86-64 calls them flags, ARM Features."""
    of_each = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset.intersection(*(frozenset(flags.split()) for flags in of_each)) if of_each else frozenset()


def _device(name: str, *, has_bfloat16: bool) -> Device:
    return Device(name=name, dtype="bfloat16" if has_bfloat16 else "float32")


def _gpu_capabilities() -> list[float]:
    """Return the compute capability of each NVIDIA GPU; none where torch is missing or was built for processors."""
    try:
        is_for_gpus = not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return []
    found = _output_of("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader") if is_for_gpus else ""
    return [float(number) for number in re.findall(r"^\d+\.\d+$", found, re.MULTILINE)]


def _output_of(program: str, *arguments: str) -> str:
    """Return what a program prints; nothing when it is not there or fails."""
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
