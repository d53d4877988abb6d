"""vLLM in this process: the engine of production, and on a CPU the engine of `make embed`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.console import note, quiet
from pipeline.errors import EngineError
from pipeline.files import on_volumes
from pipeline.model import open_checkpoint

POOLING = {"mean": "MEAN", "last": "LAST", "cls": "CLS"}

# Of an OpenMP thread, before it sleeps: about 0.2 ms, which bridges the gap between two kernels of a step. libgomp's
# own is 30 times as long, and with it a run beside another busy program takes 1.5 times as long.
SPIN_COUNT = 10_000
SLEEP_LEVEL = 1  # weights to host memory; 2 would drop them and read them from disk again


def engine_arguments(config: Config) -> dict[str, Any]:
    """Return the keyword arguments of `vllm.LLM`, model path and pooling left out (vLLM 0.32)."""
    engine, model = config.engine, config.model
    memory = {"kv_cache_memory_bytes": engine.kv_cache_bytes} if engine.kv_cache_bytes else {}
    # Page by page, a volume is slow; vLLM finds out by itself for NFS and Lustre alone.
    loading = {"safetensors_load_strategy": "prefetch"} if on_volumes() else {}
    return {
        "runner": "pooling",
        "convert": "embed",
        "dtype": model.dtype,
        "max_model_len": model.max_tokens,
        "trust_remote_code": model.trust_remote_code,
        "enforce_eager": engine.enforce_eager,
        "max_num_seqs": engine.max_num_seqs,
        "max_num_batched_tokens": engine.max_num_batched_tokens,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "enable_sleep_mode": engine.sleep_mode,
        "seed": 0,
        **memory,
        **loading,
    }


def pooler_arguments(config: Config) -> dict[str, Any]:
    """Return the keyword arguments of `vllm.config.PoolerConfig` (vLLM 0.32): pooling, and unit length."""
    return {"seq_pooling_type": POOLING[config.model.pooling], "use_activation": True}


def vllm_environment() -> dict[str, str]:
    """Return the variables that vLLM wants set before it is imported, and OpenMP unless the user set its own."""
    said = os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    waiting = {} if said else {"GOMP_SPINCOUNT": str(SPIN_COUNT)}
    return waiting | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: starts sooner, and a snapshot holds it whole
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    }


class VLLMEmbedder:
    """`vllm.LLM` as a pooling model, fed with token ids."""

    def __init__(self, config: Config) -> None:
        os.environ |= vllm_environment()
        folder = open_checkpoint(config)
        with quiet():
            try:
                from vllm import LLM
                from vllm.config import PoolerConfig
                from vllm.platforms import current_platform

                self._sleeps = config.engine.sleep_mode and current_platform.is_sleep_mode_available()
                self._llm = LLM(
                    model=str(folder),
                    pooler_config=PoolerConfig(**pooler_arguments(config)),
                    **engine_arguments(config) | {"enable_sleep_mode": self._sleeps},
                )
            except Exception as error:
                raise EngineError(f"vLLM with {config.model.name}: did not start: {error}") from error
        if config.engine.sleep_mode and not self._sleeps:
            note("vLLM cannot sleep on this platform (engine.sleep_mode); the engine stays awake")

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector of the model's full width for each list of token ids, shape (n, width)."""
        from vllm.inputs import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=list(ids)) for ids in token_ids]
        try:
            outputs = self._llm.encode(prompts, pooling_task="embed", use_tqdm=False)
        except Exception as error:
            raise EngineError(f"vLLM: {len(prompts)} passages were not embedded: {error}") from error
        return np.stack([output.outputs.data.numpy() for output in outputs]).astype(np.float32, copy=False)

    def sleep(self) -> None:
        """Move the weights to the host's memory and drop the key-value cache, where `engine.sleep_mode` is on.

        An engine that refuses stays awake and says so: a snapshot then holds the GPU's memory as it is.
        """
        if not self._sleeps:
            return
        try:
            self._llm.sleep(level=SLEEP_LEVEL)
        except Exception as error:  # noqa: BLE001  whatever vLLM raises, the engine is as good awake
            note(f"vLLM refused to sleep and stays awake: {error}")
            self.wake()
            self._sleeps = False

    def wake(self) -> None:
        """Move the weights back; raises EngineError when vLLM does not wake."""
        if not self._sleeps:
            return
        try:
            awake = self._llm.wake_up()
        except Exception as error:
            raise EngineError(f"vLLM: did not wake: {error}") from error
        if not awake:
            raise EngineError("vLLM: expected an engine that is fully awake, found a part of it asleep")
        _empty_host_cache()

    def close(self) -> None:
        """Let go of the memory of host and accelerator, which the end of `vllm.LLM` alone does not give back."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()
        _empty_host_cache()


def _empty_host_cache() -> None:
    """Give back the memory of the host in which weights were asleep; vLLM 0.32 keeps it."""
    import torch

    if torch.cuda.is_available() and hasattr(torch.accelerator, "empty_host_cache"):
        torch.accelerator.empty_host_cache()
