"""Daft: the expression `embed_text`, whose provider here is sentence-transformers, written as Parquet."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.peers import tally


def embed(source: Path, output: Path, model: str, dtype: str) -> None:
    """Embed the column `text` of a Parquet file; Daft has no option for the dtype."""
    import daft
    from daft.functions import embed_text

    tally.count_batches_of_sentence_transformers()
    tally.embedded(0)  # the model is loaded somewhere within
    rows = daft.read_parquet(str(source))
    vectors = embed_text(daft.col("text"), provider="transformers", model=model)
    rows.with_column("embedding", vectors).write_parquet(str(output))
