"""What the jobs rent and share on Modal: images, volumes, locks, times."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import modal

from jobs import buckets
from pipeline.config import load_config
from pipeline.corpus import CACHE_VARIABLE
from pipeline.driver import GPU_MEMORY_MIB as GPU_MEMORY_MIB
from pipeline.driver import SERVICE_CPUS as SERVICE_CPUS
from pipeline.serve import KEY_VARIABLE
from pipeline.shipped import CONFIGS, ROOT, SOURCES

REPOSITORY = ROOT  # where the paths of configs start
CONFIG = os.environ.get("EMBED_CONFIG", "configs/kalm-gemma3-12b.toml")
RENTED = load_config(REPOSITORY / CONFIG).modal

MINUTES = 60  # seconds
HOURS = 60 * MINUTES

DRIVER_APP = "embed-corpus"
CORPUS_VOLUME = "embedding-corpus"
OUTPUT_VOLUME = "embedding-output"
# Of one output, by the version of its volume. Version 2 has 262,144 files in a folder, version 1 has 500,000 in all:
# a part may have rejects beside it, and a volume other outputs (modal.com/docs/guide/volumes, 2026-08-22).
MAX_PARTS = {1: 100_000, 2: 262_144}
DRIVER_CPUS = 1
DRIVER_IDLE_S = 10  # that a driver stays after its run
SERVICE_APP = "vllm-embedding-snapshot"
SERVICE_CLASS = "VLLMEmbeddingSnapshot"
CPU_CLASS = "VLLMEmbeddingCPU"
SERVICE_IDLE_S = 5 * MINUTES  # that a container of the service stays after its last call
CPU_MEMORY_MIB = 8 * 1024
STARTUP_TIMEOUT_S = 30 * MINUTES  # that one may take to load its model


def code_digest() -> str:
    """Return a hash over the names and bytes of what travels in an image; it is the same on both sides of a deploy."""
    digest = hashlib.blake2b(digest_size=16)
    sources = [*(SOURCES / "pipeline").rglob("*.py"), *(SOURCES / "jobs").rglob("*.py")]
    for path in sorted(sources, key=lambda path: path.relative_to(SOURCES).as_posix()):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(SOURCES).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


weights = modal.Volume.from_name("hf-embedding-cache", create_if_missing=True)
compiled = modal.Volume.from_name("vllm-jit-cache", create_if_missing=True)
corpus = modal.Volume.from_name(CORPUS_VOLUME, create_if_missing=True)
output = modal.Volume.from_name(OUTPUT_VOLUME, create_if_missing=True, version=RENTED.output_version)
locks = modal.Dict.from_name("embedding-locks", create_if_missing=True)
attempts = modal.Dict.from_name("embedding-attempts", create_if_missing=True)
containers = modal.Dict.from_name("embedding-containers", create_if_missing=True)


WEIGHTS, COMPILED, CORPUS, OUTPUT = Path("/cache/hf"), Path("/cache/vllm"), Path("/corpus"), Path("/output")
corpus_read_only = corpus.with_mount_options(read_only=True)
driver_volumes: buckets.Mounts = {
    str(CORPUS): corpus_read_only,
    str(OUTPUT): output,
    str(WEIGHTS): weights,
    **buckets.mounts(RENTED.buckets),
}
service_volumes: buckets.Mounts = driver_volumes | {str(COMPILED): compiled}

HTTP = os.environ.get("EMBED_HTTP", "")  # not empty: serve_http is deployed with its key
ENVIRONMENT = {
    "EMBED_CONFIG": CONFIG,
    "EMBED_HTTP": HTTP,
    "HF_HOME": str(WEIGHTS),
    CACHE_VARIABLE: str(CORPUS / ".hub"),
    "HF_XET_HIGH_PERFORMANCE": "1",
    "HF_XET_CACHE": "/tmp/xet",  # below HF_HOME its open log would keep the weights volume from a commit
    "EMBED_ON_VOLUMES": "1",
    # What goes wrong while an engine loads is seen in `modal app logs` alone.
    "EMBED_LOGGED": "1",
    "EMBED_DEBUG": os.environ.get("EMBED_DEBUG", ""),
    "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "INFO"),
    # What is compiled at a start stays for the next one.
    "VLLM_CACHE_ROOT": str(COMPILED),
    "TRITON_CACHE_DIR": str(COMPILED / "triton"),
    "FLASHINFER_WORKSPACE_BASE": str(COMPILED / "flashinfer"),
    # A process that is restored from a snapshot: NCCL's memory, monitor and network would not come back as they were,
    # and torch would say so with every line.
    "NCCL_CUMEM_ENABLE": "0",
    "NCCL_NVLS_ENABLE": "0",
    "NCCL_RAS_ENABLE": "0",
    "NCCL_IB_DISABLE": "1",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
    "TORCH_CPP_LOG_LEVEL": "FATAL",
}


def _with_libraries(image: modal.Image, lock: str) -> modal.Image:
    """Install what a lock of jobs/images pins; the file is read by a deploy, and is not in a container."""
    path = Path(__file__).parent / "images" / lock
    return image.uv_pip_install(requirements=[str(path)], extra_options="--require-hashes --no-build")


def _with_sources(image: modal.Image) -> modal.Image:
    return image.add_local_python_source("pipeline", "jobs").add_local_dir(CONFIGS, "/root/configs")


# Functions without a GPU download; a run takes what is on the volumes, and a GPU never waits for the hub.
OFFLINE = {"HF_HUB_OFFLINE": "1"}
cpu_image = _with_libraries(modal.Image.debian_slim(python_version="3.12"), "driver.txt")
download_image = _with_sources(cpu_image.env(ENVIRONMENT))
driver_image = _with_sources(cpu_image.env(ENVIRONMENT | OFFLINE))
gpu_image = modal.Image.from_registry("nvidia/cuda:13.0.2-devel-ubuntu24.04", add_python="3.12").entrypoint([])
service_image = _with_sources(_with_libraries(gpu_image, "service.txt").env(ENVIRONMENT | OFFLINE))

# Of the hub, for a gated model. In a container the variable is there exactly if it was here.
hub_token = [modal.Secret.from_dict({"HF_TOKEN": os.environ["HF_TOKEN"]})] if os.environ.get("HF_TOKEN") else []

# Of the HTTP service. Who does not ask for the service needs no secret to deploy.
http_key = [modal.Secret.from_name("vllm-embedding-api-key", required_keys=[KEY_VARIABLE])] if HTTP else []
