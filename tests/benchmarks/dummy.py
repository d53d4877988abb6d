"""The model of production without its weights: vLLM fills its shape with small random numbers, and is as fast."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ENGINES, Config, EngineKind, load_config
from pipeline.console import quiet
from pipeline.engines import VLLMEmbedder, engine_arguments, pooler_arguments, vllm_environment
from pipeline.model import open_checkpoint
from pipeline.shipped import find_config
from tests.support.checkpoints import write_tokenizer

KIND, CONFIG, LAYERS = "dummy", "kalm-gemma3-12b", 48
SHAPE: dict[str, Any] = {  # of google/gemma-3-12b, less its pictures; 10.76B parameters outside the embedding table
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "vocab_size": 262_208,
    "hidden_size": 3840,
    "intermediate_size": 15_360,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 1024,
    "max_position_embeddings": 131_072,
    "torch_dtype": "bfloat16",
}


def write_shape(folder: Path, n_layers: int) -> dict[str, Any]:
    """Write the config.json and a tokenizer into a folder; return the keys of CONFIG that then are others."""
    write_tokenizer(folder)  # which nothing here needs but vLLM
    (folder / "config.json").write_text(json.dumps(SHAPE | {"num_hidden_layers": n_layers}))
    model = load_config(find_config(CONFIG)).model
    return {
        "engine.kind": KIND,
        "model.location": str(folder),
        "model.golden": "",
        "model.flop_per_token": model.flop_per_token * n_layers / LAYERS,
        "model.kv_bytes_per_token": model.kv_bytes_per_token * n_layers // LAYERS,
    }


class DummyEmbedder(VLLMEmbedder):
    """vLLM as the pipeline loads it, for KIND without weights; words are taken for tokens."""

    def __init__(self, config: Config) -> None:
        os.environ |= vllm_environment()
        is_dummy = config.engine.kind == KIND
        more = {"load_format": "dummy"} if is_dummy else {}
        with quiet():
            from vllm import LLM
            from vllm.config import PoolerConfig
            from vllm.platforms import current_platform

            self._sleeps = config.engine.sleep_mode and current_platform.is_sleep_mode_available()
            arguments = engine_arguments(config) | {"enable_sleep_mode": self._sleeps} | more
            folder = config.model.location if is_dummy else str(open_checkpoint(config))
            self._llm = LLM(model=folder, pooler_config=PoolerConfig(**pooler_arguments(config)), **arguments)

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector for each list of token ids, shape (n, width)."""
        return super().embed([[each % SHAPE["vocab_size"] for each in ids] for ids in token_ids])


def offer() -> None:
    """Let configs of this process name the engine."""
    ENGINES[KIND] = EngineKind(make="tests.benchmarks.dummy:DummyEmbedder", needs_weights=False, package="vllm")
