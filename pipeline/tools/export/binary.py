"""binary: one Parquet file with every column of a dataset, its vectors as packed bits, 1 for above 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.tools.export.columns import as_tables, write_parquet
from pipeline.tools.passages import Passages
from pipeline.tools.quantize import to_bits


def to_binary(passages: Passages, path: Path, about: dict[str, Any]) -> None:
    """Write the file."""
    write_parquet(path, *as_tables(passages, to_bits), about)
