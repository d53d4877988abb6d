"""sentence-transformers on torch, onnxruntime or OpenVINO: `encode`, which sorts by length, then one Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.peers import tally

BATCH = 8  # the best of 8, 16, 32 and 64 on two cores: texts of one batch are padded to the longest


def embed(source: Path, output: Path, model: str, dtype: str, backend: Any = "torch") -> None:
    """Embed the column `text` of a Parquet file; for a backend other than torch, the model was exported before."""
    import pandas as pd
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {}
    tally.count_batches_of_sentence_transformers()
    if backend == "torch":
        options = {"dtype": dtype}
    elif backend == "openvino":
        options = {"ov_config": {"INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[dtype]}}
    encoder = SentenceTransformer(model, backend=backend, model_kwargs=options)
    tally.embedded(0)
    table = pd.read_parquet(source)
    vectors = encoder.encode(table["text"].tolist(), batch_size=BATCH)
    table.assign(embedding=list(vectors)).to_parquet(output / "vectors.parquet")
