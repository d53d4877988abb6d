"""A model as onnxruntime or OpenVINO wants it: python -m tests.benchmarks.peers.exported BACKEND MODEL FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from sentence_transformers import SentenceTransformer

    backend: Any
    backend, model, folder = sys.argv[1:]
    made = Path(folder).with_suffix(".part")
    SentenceTransformer(model, backend=backend).save_pretrained(str(made))
    made.rename(folder)
