"""What `model.dtype = "auto"` becomes: bfloat16 where the hardware computes it faster, else float32."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from pipeline.config import ENGINES, Config, Dtype

CPUINFO = Path("/proc/cpuinfo")
# As Linux names them there: AMX and AVX512-BF16 of x86-64, BF16 of ARM. AVX512-BF16 alone is no gain on Intel: a core
# has one unit for it and two for float32 (on an Emerald Rapids without AMX bfloat16 took 1.24 times as long).
FAST_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
FAST_FLAGS_OF_INTEL = frozenset({"amx_bf16"})
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
        return _device("this GPU", is_fast=min(capabilities) >= BFLOAT16_CAPABILITY)
    return _device("this processor", is_fast=is_fast_in_bfloat16(_cpuinfo()))


def modal_device(gpu: str) -> Device:
    """Return the device of a Modal container with this GPU.

    Without one it takes float32: which processor a container gets is not known before it starts.
    """
    if not gpu:
        return _device("a container without a GPU", is_fast=False)
    name = gpu.split(":")[0].rstrip("!").upper()
    return _device(f"GPU {gpu}", is_fast=name not in GPUS_WITHOUT_BFLOAT16)


def settle_dtype(config: Config, device: Device, *, kept: Dtype | None = None) -> Config:
    """Return the config with the dtype that "auto" becomes: the one `kept` by an output, else the device's."""
    if config.model.dtype != "auto":
        return config
    dtype = kept or ENGINES[config.engine.kind].computes_in or device.dtype
    return replace(config, model=replace(config.model, dtype=dtype))


def describe_dtype(asked: Config, settled: Config, device: Device) -> str:
    """Return a line that names what "auto" became, if that is not bfloat16 or is slow on the device; else nothing."""
    dtype = settled.model.dtype
    if asked.model.dtype != "auto" or ENGINES[asked.engine.kind].computes_in:
        return ""
    if dtype != device.dtype:
        return f"model.dtype auto is {dtype} as in the output; {device.name} computes {device.dtype} faster"
    if dtype != "bfloat16":
        return f"model.dtype auto is {dtype}, which {device.name} computes faster than bfloat16"
    return ""


def is_fast_in_bfloat16(cpuinfo: str) -> bool:
    """Return what the text of a /proc/cpuinfo says of all its processors; x86-64 has flags there, ARM Features."""
    of_each = [set(line.split()) for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)]
    is_intel = re.search(r"^vendor_id\s*:\s*GenuineIntel$", cpuinfo, re.MULTILINE)
    wanted = FAST_FLAGS_OF_INTEL if is_intel else FAST_FLAGS
    return bool(of_each and set.intersection(*of_each) & wanted)


def _cpuinfo() -> str:
    """Return /proc/cpuinfo; on macOS a line of that form, elsewhere nothing."""
    if sys.platform == "darwin":
        return "Features : bf16" if _output_of("sysctl", "-n", "hw.optional.arm.FEAT_BF16").strip() == "1" else ""
    return CPUINFO.read_text() if CPUINFO.exists() else ""


def _device(name: str, *, is_fast: bool) -> Device:
    return Device(name=name, dtype="bfloat16" if is_fast else "float32")


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
