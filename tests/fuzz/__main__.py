"""`python -m tests.fuzz TARGET FOLDER [libFuzzer options]`: fuzz one target; what it finds lands in FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pipeline"]):
    from tests.fuzz.targets import TARGETS

name, folder, *options = sys.argv[1:]
target, seeds = TARGETS[name]
corpus = Path(folder) / name
corpus.mkdir(parents=True, exist_ok=True)
for number, seed in enumerate(seeds()):
    (corpus / f"seed-{number}").write_bytes(seed)
atheris.Setup([name, str(corpus), f"-artifact_prefix={folder}/{name}-", *options], target)
atheris.Fuzz()
