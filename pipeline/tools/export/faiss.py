"""faiss: a folder with `index.faiss`, a flat index of inner products, and `ids.parquet`.

The library would hold every vector in memory to write such an index. The format is a header and the vectors.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from pipeline.tools.export.ids import write_beside
from pipeline.tools.passages import Passages

HEADER = struct.Struct("<4siqqq?iQ")  # kind, dim, vectors, two numbers without a use, trained, metric, floats
UNUSED = 1 << 20
INNER_PRODUCT = 0


def to_faiss(passages: Passages, path: Path, about: dict[str, Any]) -> None:
    """Write the folder."""
    n, dim = len(passages), passages.dim
    header = HEADER.pack(b"IxFI", dim, n, UNUSED, UNUSED, True, INNER_PRODUCT, n * dim)
    write_beside(passages, path, "index.faiss", header)
