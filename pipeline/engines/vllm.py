"""vLLM in this process: the engine of production, and on a CPU the engine of `make embed`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.engines.quiet import quiet
from pipeline.errors import EngineError
from pipeline.weights import check_revision, locate

POOLING: dict[str, Literal["MEAN", "LAST", "CLS"]] = {"mean": "MEAN", "last": "LAST", "cls": "CLS"}


def engine_arguments(config: Config) -> dict[str, Any]:
    """Return the keyword arguments of `vllm.LLM`, model path and pooling left out (vLLM 0.32)."""
    engine, model = config.engine, config.model
    memory = {"kv_cache_memory_bytes": engine.kv_cache_bytes} if engine.kv_cache_bytes else {}
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
    }


def pooler_arguments(config: Config) -> dict[str, Any]:
    """Return the keyword arguments of `vllm.config.PoolerConfig`."""
    return {"seq_pooling_type": POOLING[config.model.pooling], "use_activation": True}


def environment() -> dict[str, str]:
    """Return the variables that vLLM wants set before it is imported."""
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: starts sooner, and a snapshot holds it whole
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    }


class VLLMEmbedder:
    """`vllm.LLM` as a pooling model, fed with token ids."""

    def __init__(self, config: Config) -> None:
        os.environ |= environment()
        folder = locate(config.model)
        check_revision(config.model, folder)
        with quiet():
            try:
                from vllm import LLM
                from vllm.config import PoolerConfig

                self._llm = LLM(
                    model=str(folder),
                    pooler_config=PoolerConfig(**pooler_arguments(config)),
                    **engine_arguments(config),
                )
            except Exception as error:
                raise EngineError(f"vLLM with {config.model.name}: did not start: {error}") from error
        self._sleeps = config.engine.sleep_mode

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
        """Move the weights to the host's memory and drop the key-value cache, when `engine.sleep_mode` is on."""
        if self._sleeps:
            self._llm.sleep(level=1)

    def wake(self) -> None:
        """Move the weights back."""
        if self._sleeps:
            self._llm.wake_up()
