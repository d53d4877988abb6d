"""The commands that show a dataset to others."""

from __future__ import annotations

import shlex
from argparse import Namespace
from pathlib import Path

from pipeline.console import size
from pipeline.dataset import Store


def report(options: Namespace) -> None:
    """Write the report of a dataset."""
    from pipeline import dataset
    from pipeline.tools import report as write_report

    store = Store(root=Path(options.dataset))
    path = dataset.read_dataset(store, lambda manifest: write_report(store, manifest))
    print(f"{shlex.quote(str(path))}: {size(path.stat().st_size)}; open it in a browser, it needs no other file")
