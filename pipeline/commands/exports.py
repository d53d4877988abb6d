"""The commands that take the vectors of a dataset elsewhere, and that tell what smaller ones cost."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipeline.commands.asked import say
from pipeline.console import note
from pipeline.dataset import Store, output_folder


def export(options: Namespace) -> None:
    """Write a dataset in the format of another program."""
    from pipeline import dataset
    from pipeline.tools import export as export_dataset

    store, destination = Store(root=Path(options.dataset)), output_folder(options.destination)
    about = dataset.read_dataset(store, lambda manifest: export_dataset(store, manifest, options.to, destination))
    if about["state"] != "complete":
        note(f"dataset {options.dataset}: {about['state']}; `embed-corpus run` completes it, then export it again")
    print(f"{options.destination}: {about['passages']:,} vectors of {about['dim']} components as {options.to}")


def quality(options: Namespace) -> None:
    """Tell what smaller vectors cost."""
    from pipeline import dataset
    from pipeline.tools import describe_quality, quality

    store = Store(root=Path(options.dataset))
    found = dataset.read_dataset(store, lambda manifest: quality(store, manifest, options.sample))
    say(options, found, describe_quality(found))
