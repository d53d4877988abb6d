"""The commands on a dataset."""

from __future__ import annotations

import contextlib
import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import msgspec

from pipeline.commands.asked import say
from pipeline.console import CHECKING, count, in_one_line, note, screen, screen_on_stderr
from pipeline.dataset import Manifest, Store, output_folder
from pipeline.errors import DamageError, IncompleteError, UsageError

LOOK_EVERY_S = 0.5


def status(options: Namespace) -> None:
    """Tell what a dataset holds, and what its run is at; with `--watch` as long as one is at work."""
    from pipeline import dataset

    store = Store(root=Path(options.dataset))
    manifest = dataset.open_dataset(store)
    if options.watch:
        _watch(store)
        manifest = dataset.open_dataset(store)
    found = dataset.status(store, manifest)
    run = msgspec.to_builtins(manifest.run) if manifest.run else {}
    words = dataset.describe_status(found, run, store.volume.shown(store.root))
    say(options, found, "\n".join(map(in_one_line, words)))


def _watch(store: Store) -> None:
    """Show how far the run of a dataset is until it ends."""
    with screen_on_stderr() as shown:
        while store.is_locked():
            if (progress := store.volume.shown(store.root)) is not None:
                shown.show(progress)
            time.sleep(LOOK_EVERY_S)


def verify(options: Namespace) -> None:
    """Check a dataset and, when asked, drop what is damaged.

    Raises DamageError for damage that is still there, and IncompleteError for what the next run makes or mends.
    """
    from pipeline import dataset
    from pipeline.tools import LEFT_BY_A_RUN, as_tables, coverage, repair, verify

    store = Store(root=Path(options.dataset))
    if options.repair:
        dataset.check_layout(store.root, UsageError)
    dataset.open_dataset(store)
    with store.lock() if options.repair else contextlib.nullcontext():
        manifest = store.read_manifest()
        with screen() as board:
            board.enter(CHECKING, n_files=len(manifest.receipts))
            problems, duplicate_ids = verify(store, manifest, at_rest=options.repair or not store.is_locked())
            if options.input:
                problems += coverage(options.input, store, manifest)
        repaired = repair(store, manifest, problems) if options.repair and problems else []
    found = dataset.status(store, store.read_manifest()) | {
        "duplicate_ids": duplicate_ids,
        "problems": as_tables(problems),
        "repaired": repaired,
    }
    lines = [in_one_line(f"{problem.path}: {problem.kind}: {problem.detail}") for problem in problems]
    is_complete = found["state"] == "complete"
    mended_by_run = ("outdated",) if is_complete else ("outdated", *LEFT_BY_A_RUN)
    damage = [line for line, problem in zip(lines, problems, strict=True) if problem.kind not in mended_by_run]
    outdated = any(problem.kind == "outdated" for problem in problems)
    state = "damaged" if damage and not options.repair else "outdated" if is_complete and outdated else found["state"]
    rows = "{embedded_rows:,} embedded and {rejected_rows:,} rejected of {input_rows:,} rows".format(**found)
    summary = f"{state}: {count(found['parts'], 'part')}, {rows}"
    say(options, found, "\n".join([*lines, *map(in_one_line, repaired), summary]))
    foreign = [line for line, problem in zip(lines, problems, strict=True) if problem.kind == "foreign"]
    if options.repair and foreign:
        raise DamageError(f"dataset {options.dataset}: left {len(foreign)} files alone, such as {foreign[0]}")
    if damage and not options.repair:
        raise DamageError(
            f"dataset {options.dataset}: {len(damage)} problems; the first is {damage[0]}. "
            "`verify --repair` drops what is damaged, `run` makes it again"
        )
    if found["state"] == "running":
        raise IncompleteError(f"dataset {options.dataset}: sound so far, and a run is at work on it")
    left = [line for line, problem in zip(lines, problems, strict=True) if problem.kind in ("outdated", "lost")]
    if left or not is_complete:
        state = f"not up to date: {left[0]}" if left else found["state"]
        raise IncompleteError(f"dataset {options.dataset}: sound but {state}; `embed-corpus run` completes it")


def rejects(options: Namespace) -> None:
    """List the rows that could not be embedded, in constant memory."""
    from pipeline.dataset import open_dataset
    from pipeline.tools import format_reject, list_rejects

    store = Store(root=Path(options.dataset))
    n_listed = 0
    if options.json:
        print("[", end="")
    for n_listed, reject in enumerate(list_rejects(store, open_dataset(store)), 1):
        if options.json:
            print(",\n" if n_listed > 1 else "", json.dumps(reject), sep="", end="")
        else:
            print(format_reject(reject))
    if options.json:
        print("]")
    elif not n_listed:
        print("no row was rejected")


def slice(options: Namespace) -> None:
    """Cut the vectors of a dataset into another one."""
    from pipeline import dataset
    from pipeline.tools import slice_dataset

    store, place = Store(root=Path(options.dataset)), Store(root=output_folder(options.destination))

    def cut(manifest: Manifest) -> tuple[dict[str, Any], list[int]]:
        sums = slice_dataset(store, manifest, options.dim, place)
        return sums, dataset.trained_widths(manifest.dataset) if manifest.dataset else []

    sums, trained = dataset.read_dataset(store, cut)
    if trained and options.dim not in trained and not options.allow_untrained_dim:
        note(f"the model was trained for {', '.join(map(str, trained))}: {options.dim} costs quality")
    vectors = f"{count(sums['passages'], 'vector')} of {options.dim} components"
    print(f"{options.destination}: {vectors} in {count(sums['parts'], 'part')}")
