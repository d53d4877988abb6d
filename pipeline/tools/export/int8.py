"""int8: one Parquet file with every column of a dataset, its vectors in int8.

The metadata has for each component what the values mean: component = scale * value + offset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.tools.export.columns import as_tables, write_parquet
from pipeline.tools.passages import Passages
from pipeline.tools.quantize import calibrate, to_int8


def to_int8_parquet(passages: Passages, path: Path, about: dict[str, Any]) -> None:
    """Write the file; the dataset is read twice."""
    steps = calibrate(passages.vectors())
    meaning = {"scale": steps.scale.tolist(), "offset": steps.offset.tolist()}
    write_parquet(path, *as_tables(passages, lambda vectors: to_int8(vectors, steps)), about | meaning)
