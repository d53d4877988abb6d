"""parquet-f32: one Parquet file with every column of a dataset, its vectors in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.tools.export.columns import as_tables, write_parquet
from pipeline.tools.passages import Passages


def to_parquet_f32(passages: Passages, path: Path, about: dict[str, Any]) -> None:
    """Write the file."""
    write_parquet(path, *as_tables(passages, lambda vectors: vectors), about)
