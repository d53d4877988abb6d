"""vLLM: `run-batch`, from a file of requests in OpenAI's batch format to a file of answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import tally
from tests.benchmarks.peers.of_vllm_embed import ENGINE


def embed(source: Path, output: Path, model: str, dtype: str) -> None:
    """Embed the column `text` of a Parquet file, whose ids become those of the requests."""
    os.environ["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"  # else one of two cores is kept for the requests
    import pandas as pd

    requests = output / "requests.batch"
    with requests.open("w") as file:
        for row in pd.read_parquet(source).itertuples():
            body = {"model": model, "input": row.text, "truncate_prompt_tokens": -1}
            line = {"custom_id": row.id, "method": "POST", "url": "/v1/embeddings", "body": body}
            file.write(json.dumps(line) + "\n")
    sys.argv[1:] = ["-i", str(requests), "-o", str(output / "vectors.jsonl"), "--model", model, "--runner", "pooling"]
    sys.argv += ["--dtype", dtype, "--max-model-len", "256", "--enforce-eager"]
    sys.argv += [word for name, value in ENGINE.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    _run_batch()


def _run_batch() -> None:
    """Do what the command `vllm run-batch` does; the command itself does not start where vLLM is vllm-cpu."""
    from vllm.entrypoints.launchers import run_batch

    untyped: Any = run_batch
    progress, run = untyped.BatchProgressTracker, untyped.run_batch
    progress.completed = tally.counted(progress.completed, lambda *of_one: 1)

    async def ready(*arguments: Any) -> None:
        tally.embedded(0)
        await run(*arguments)

    untyped.run_batch = ready
    asyncio.run(untyped.main(untyped.parse_args()))
