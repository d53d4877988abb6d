"""Ray Data: `map_batches` with an actor that has a SentenceTransformer, written as Parquet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import tally
from tests.benchmarks.peers.of_sentence_transformers import BATCH

ROWS = 256  # of a batch that an actor gets, which sorts them by length


class Encoder:
    """An actor of Ray with a model."""

    def __init__(self, model: str, dtype: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(os.cpu_count() or 1)  # Ray gives an actor one
        tally.count_batches_of_sentence_transformers()
        self._encoder = SentenceTransformer(model, model_kwargs={"dtype": dtype})
        tally.embedded(0)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with its vectors."""
        return {**rows, "embedding": self._encoder.encode(rows["text"].tolist(), batch_size=BATCH)}


def embed(source: Path, output: Path, model: str, dtype: str) -> None:
    """Embed the column `text` of a Parquet file."""
    import ray

    ray.init(include_dashboard=False)
    rows = ray.data.read_parquet(str(source))
    made = rows.map_batches(Encoder, fn_constructor_args=(model, dtype), batch_size=ROWS, concurrency=1)
    made.write_parquet(str(output))
