"""The engine of a config alone: token ids in, vectors in memory, and nothing else.

python -m tests.benchmarks.bare_engine TEXTS.parquet VECTORS.npy --config local [--set table.key=value …]

With vLLM that is `LLM.encode` with the engine arguments and the batches of the pipeline. The clock runs from a loaded
engine, which has embedded once, to the last vector.
"""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config import Config, load_config
from pipeline.console import peak_rss_bytes, quiet
from pipeline.engines import engine_arguments, make_embedder, pooler_arguments, vllm_environment
from pipeline.model import make_tokenizer, open_checkpoint, settle_dtype, this_device
from pipeline.shipped import find_config

Encode = Callable[[Sequence[list[int]]], NDArray[np.float32]]


def bare(config: Config) -> Encode:
    """Load the engine and return the call that embeds a batch."""
    if config.engine.kind != "vllm":
        return make_embedder(config).embed
    os.environ |= vllm_environment()
    with quiet():
        from vllm import LLM
        from vllm.config import PoolerConfig
        from vllm.inputs import TokensPrompt

        pooler = PoolerConfig(**pooler_arguments(config))
        llm = LLM(model=str(open_checkpoint(config)), pooler_config=pooler, **engine_arguments(config))

    def encode(batch: Sequence[list[int]]) -> NDArray[np.float32]:
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in batch]
        outputs: Any = llm.encode(prompts, pooling_task="embed", use_tqdm=False)
        return np.stack([output.outputs.data.numpy() for output in outputs])

    return encode


def main() -> int:
    """Embed all texts, keep the vectors for a comparison, and print what that took as one JSON object."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    config = settle_dtype(load_config(find_config(asked.config), asked.set), this_device())
    texts = pq.read_table(asked.texts, columns=["text"]).column("text").to_pylist()
    tokenizer = make_tokenizer(config, max_tokens=config.model.max_tokens)
    ids = [windows[0].ids for windows in tokenizer.windows(texts)]
    encode, size = bare(config), config.engine.batch_passages
    encode(ids[:3])
    began = time.perf_counter()
    vectors = [encode(ids[at : at + size]) for at in range(0, len(ids), size)]
    wall_s = time.perf_counter() - began
    np.save(asked.vectors, np.concatenate(vectors))
    lengths = [len(each) for each in ids]
    found = {"wall_s": wall_s, "lengths": lengths, "dtype": config.model.dtype, "peak_rss_bytes": peak_rss_bytes()}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
