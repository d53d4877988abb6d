"""The commands that show a dataset to others."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.console import CHECKING, count, in_one_line, screen, size
from pipeline.dataset import Store

if TYPE_CHECKING:
    from pipeline.tools import Shipment


def report(options: Namespace) -> None:
    """Write the report of a dataset."""
    from pipeline import dataset
    from pipeline.tools import report as write_report

    store = Store(root=Path(options.dataset))
    path = dataset.read_dataset(store, lambda manifest: write_report(store, manifest))
    print(f"{shlex.quote(str(path))}: {size(path.stat().st_size)}; open it in a browser, it needs no other file")


def push(options: Namespace) -> None:
    """Show what would be sent to the hub and, when asked, send it."""
    from pipeline import dataset
    from pipeline.tools import check_repo, shipment
    from pipeline.tools import push as push_dataset

    check_repo(options.repo)
    store = Store(root=Path(options.dataset))
    manifest = dataset.open_dataset(store)
    with screen() as board:
        board.enter(CHECKING, n_files=len(manifest.receipts))
        sent = shipment(store, manifest)
    for line in _words(sent, options.repo, public=options.public):
        print(in_one_line(line))
    if options.yes:
        print(f"sent: {push_dataset(store, manifest, sent, options.repo, public=options.public)}")
    else:
        print("nothing was sent; the same command with --yes sends it")


def _words(sent: Shipment, repo: str, *, public: bool) -> Iterator[str]:
    seen_by = "everyone" if public else "its owner alone"
    yield f"datasets/{repo} on the Hugging Face hub, for {seen_by} to see"
    for folder, what in (
        ("data", "vectors, stored texts, kept columns"),
        ("rejects", "texts of rejected rows"),
    ):
        sizes = [n_bytes for name, n_bytes in sent.parts.items() if name.startswith(f"{folder}/")]
        if sizes:
            yield f"  {folder + '/':<10}{count(len(sizes), 'file')}, {size(sum(sizes))}: {what}"
    for name, n_bytes in sent.others.items():
        yield f"  {name}, {size(n_bytes)}" + (f": names the input {sent.input}" if name == "manifest.jsonl" else "")
    yield f"  in all    {count(len(sent.parts) + len(sent.others), 'file')}, {size(sent.n_bytes)}"
    yield f"  licence   {sent.licence or 'none named: corpus.licence of a config, or README.md, says one'}"
