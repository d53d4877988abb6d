"""Ours: `embed-corpus run`, with each of its engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.peers import tally

CHUNK_TOKENS = 2048  # a small corpus is one chunk otherwise: what a kill costs is a chunk, here as in a large one


def embed(source: Path, output: Path, model: str, dtype: str, kind: str = "vllm") -> None:
    """Embed the column `text` of a Parquet file; raises SystemExit for a run that is not complete."""
    from pipeline import cli
    from pipeline.engines import thread

    engine: Any = thread
    engine.to_unit_batch = tally.counted(engine.to_unit_batch, lambda vectors, batch, dim: len(batch))
    engine.Canary._embed = tally.counted(engine.Canary._embed, lambda *of_one: -1)  # it is none of the rows
    settings = [f"engine.kind={kind}", f"model.dtype={dtype}", f"run.chunk_tokens={CHUNK_TOKENS}"]
    chosen = [word for each in settings for word in ("--set", each)]
    if code := cli.main(
        ["run", "--input", str(source), "--output", str(output / "ours"), "--config", "local", *chosen]
    ):
        raise SystemExit(code)
