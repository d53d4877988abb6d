"""lance: a Lance dataset with every column of a dataset, its vectors in float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import PipelineError, UsageError
from pipeline.tools.export.columns import as_tables
from pipeline.tools.passages import Passages


def to_lance(passages: Passages, path: Path, about: dict[str, Any]) -> None:
    """Write the dataset; raises UsageError where the library is missing."""
    try:
        import lance
    except ModuleNotFoundError as error:
        raise UsageError(
            "export --to lance: expected the library pylance, found none; install the extra: "
            "pip install 'embed-corpus[export]'"
        ) from error
    schema, tables = as_tables(passages, lambda vectors: vectors)
    raised: list[PipelineError] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for table in tables:
                yield from table.to_batches()
        except PipelineError as error:  # which comes out of the library as another one
            raised.append(error)
            raise

    try:
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), path)
    except Exception:
        if raised:
            raise raised[0] from None
        raise
