"""LanceDB: a table whose schema has an embedding function, to which rows are added."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.peers import tally

ROWS = 256  # of an addition, which is a commit


def embed(source: Path, output: Path, model: str, dtype: str) -> None:
    """Embed the column `text` of a Parquet file; the embedding function has no option for the dtype."""
    import lancedb
    import pyarrow.parquet as pq
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    tally.count_batches_of_sentence_transformers()
    function = get_registry().get("sentence-transformers").create(name=model)
    fields = {"id": str, "text": str, "embedding": Vector(function.ndims())}
    values = {"text": function.SourceField(), "embedding": function.VectorField()}
    schema = type("Texts", (LanceModel,), {"__annotations__": fields, **values})
    tally.embedded(0)  # three more, letters that show how wide a vector is, were embedded before
    table = lancedb.connect(str(output)).create_table("vectors", schema=schema, mode="overwrite")
    for batch in pq.ParquetFile(source).iter_batches(ROWS):
        table.add(batch.to_pylist())
