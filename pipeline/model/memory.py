"""GPU memory: whether weights and the keys and values of one step fit into a GPU, before it is rented."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.errors import ConfigError

GIB = 1 << 30
# What nvidia-smi reports as total, by Modal's name of the GPU; a little under the nominal size.
GPU_GIB = {
    "T4": 15.0,
    "L4": 22.5,
    "A10": 22.5,
    "A10G": 22.5,
    "A100": 39.4,
    "A100-40GB": 39.4,
    "A100-80GB": 79.2,
    "L40S": 44.5,
    "H100": 79.2,
    "H200": 139.8,
    "B200": 178.4,
}
NUMBER_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
RESERVE_GIB = 2.0  # CUDA's own, and the activations of a step: 1.4 GiB for 16,384 tokens of Gemma 3 12B


def weight_bytes(config: Config) -> float:
    """Return the bytes of the weights as loaded."""
    return config.model.n_parameters * NUMBER_BYTES[config.model.dtype]


def kv_bytes_per_token(config: Config) -> int:
    """Return the bytes that a token takes in the key-value cache, in every layer; 0 for an encoder, which has none.

    The layers with a sliding window need less once a text is longer than the window.
    """
    return config.model.kv_bytes_per_token * NUMBER_BYTES[config.model.dtype] // 2


def room_bytes(config: Config, gpu: str) -> float | None:
    """Return what weights and reserve leave to the key-value cache; None where the model's or GPU's size is unknown."""
    total_gib = GPU_GIB.get(gpu.split(":")[0].rstrip("!"))
    if total_gib is None or not config.model.n_parameters:
        return None
    return (total_gib * config.engine.gpu_memory_utilization - RESERVE_GIB) * GIB - weight_bytes(config)


def check_memory(config: Config, gpu: str) -> None:
    """Raise ConfigError with the numbers when the weights, or the tokens of one step, do not fit.

    More sequences than fit at once are no error: they wait, and `max_num_seqs` only bounds them.
    """
    model, engine = config.model, config.engine
    room = room_bytes(config, gpu)
    step_tokens = max(model.max_tokens, min(engine.max_num_batched_tokens, engine.max_num_seqs * model.max_tokens))
    needed = step_tokens * kv_bytes_per_token(config)
    if room is None or room >= needed:
        return
    raise ConfigError(
        f"modal.gpu {gpu}: expected room for weights of {weight_bytes(config) / GIB:.1f} GiB, a step of "
        f"{step_tokens:,} tokens at {kv_bytes_per_token(config) / 1024:.0f} KiB ({needed / GIB:.1f} GiB) and "
        f"{RESERVE_GIB:.1f} GiB of reserve, found {GPU_GIB[gpu.split(':')[0].rstrip('!')]:.1f} GiB * "
        f"{engine.gpu_memory_utilization} (engine.gpu_memory_utilization); lower engine.max_num_batched_tokens or "
        "model.max_tokens, or take a larger GPU"
    )
