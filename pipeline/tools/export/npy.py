"""npy: a folder with `vectors.npy`, which numpy maps into memory, and `ids.parquet`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.tools.export.ids import write_beside
from pipeline.tools.passages import Passages


def to_npy(passages: Passages, path: Path, about: dict[str, Any]) -> None:
    """Write the folder."""
    header = io.BytesIO()
    says = {"descr": "<f4", "fortran_order": False, "shape": (len(passages), passages.dim)}
    np.lib.format.write_array_header_1_0(header, says)  # type: ignore[no-untyped-call]
    write_beside(passages, path, "vectors.npy", header.getvalue())
