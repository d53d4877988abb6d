"""vLLM: `LLM.embed` of all texts, then pandas to one Parquet file, with the engine set up as ours is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import tally

ENGINE: dict[str, Any] = {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "kv_cache_memory_bytes": 1 << 28}


def embed(source: Path, output: Path, model: str, dtype: Any) -> None:
    """Embed the column `text` of a Parquet file."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import pandas as pd
    from vllm import LLM
    from vllm.v1.engine.output_processor import OutputProcessor

    untyped: Any = OutputProcessor
    untyped._finish_request = tally.counted(untyped._finish_request, lambda *of_one: 1)
    engine = LLM(
        model=model, runner="pooling", convert="embed", dtype=dtype, max_model_len=256, enforce_eager=True, **ENGINE
    )
    tally.embedded(0)
    table = pd.read_parquet(source)
    outputs = engine.embed(table["text"].tolist(), tokenization_kwargs={"truncate_prompt_tokens": -1})
    vectors: Any = [each.outputs.embedding for each in outputs]
    table.assign(embedding=vectors).to_parquet(output / "vectors.parquet")
