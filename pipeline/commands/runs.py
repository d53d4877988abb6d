"""The commands that change an output, and the one that tells what a run would take."""

from __future__ import annotations

import shlex
import sys
import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.commands.asked import config_of, say, settled, typed
from pipeline.commands.spool import going_on, spooled
from pipeline.console import READING, count, in_one_line, note, screen
from pipeline.errors import DamageError, IncompleteError

if TYPE_CHECKING:
    from pipeline.driver import Outcome, RunOptions

# Of a run, as their flags are named.
OPTIONS = ("limit", "skip_bad_files", "rebuild", "rehash", "keep_missing", "prune")


def plan(options: Namespace) -> None:
    """Tell what a run would take."""
    from pipeline.dataset import describe_plan

    found = planned(options)
    say(options, found, "\n".join(map(in_one_line, describe_plan(found))))


def planned(options: Namespace) -> dict[str, Any]:
    """Return the object of `plan --json`."""
    from pipeline.dataset import Store, output_folder
    from pipeline.driver import estimate, make_plan, rate_of
    from pipeline.model import this_device

    asked = _run_options(options)
    with tempfile.TemporaryDirectory() as empty, spooled(options) as options:
        store = Store(root=Path(empty) if options.output is None else output_folder(options.output))
        config = settled(config_of(options), this_device(), store, rebuild=asked.rebuild)
        there = make_plan(options.input, store, config, replace(asked, streams=True))
        return estimate(there, store, config, rate_of(config, there.inventory.kept.values()))


def run(options: Namespace) -> None:
    """Make the output reflect the input; raises IncompleteError when it does not.

    With `--dry-run` it tells what it would take, as `plan` does, and changes nothing.
    """
    if options.dry_run:
        plan(options)
        return
    with spooled(options, options.output) as spool:
        with screen(typed(going_on(sys.argv, options))) as board:
            board.enter(READING)
            outcome = made(spool)
        for source in outcome.run.skipped_files:
            note(f"skipped {source}")
        _tell(options, outcome)
        check_made(outcome, options)


def check_made(outcome: Outcome, options: Namespace) -> None:
    """Raise IncompleteError for an output that does not reflect the input, or not strictly where that was asked."""
    if shortfall := outcome.shortfall():
        raise IncompleteError(f"output {options.output}: {shortfall}")
    if options.strict and outcome.totals["rejected_rows"]:
        raise IncompleteError(
            f"output {options.output}: expected every row embedded (--strict), found "
            f"{outcome.totals['rejected_rows']:,} "
            "rejected; `embed-corpus rejects` lists them"
        )


def _tell(options: Namespace, outcome: Outcome) -> None:
    """Print what became of a run: the object of `status --json`, or in words with what to type next."""
    from pipeline import dataset

    if options.json:
        store = dataset.Store(root=dataset.output_folder(options.output))
        say(options, dataset.status(store, store.read_manifest()), "")
        return
    place, named = shlex.quote(options.output), f" --model {shlex.quote(options.model)}" if options.model else ""
    steps = (
        ()
        if outcome.run.missing_chunks
        else (f'embed-corpus search {place} "your words"{named}', f"embed-corpus verify {place}")
    )
    found = outcome.totals | msgspec.to_builtins(outcome.run)
    for line in dataset.describe_run(found, options.output, next_steps=steps):
        print(in_one_line(line))


def made(options: Namespace) -> Outcome:
    """Make the output reflect the input, and return how that went."""
    from pipeline import driver
    from pipeline.dataset import Store, output_folder
    from pipeline.driver import fan_out_here, saying
    from pipeline.model import describe_dtype, this_device

    store, device, asked = Store(root=output_folder(options.output)), this_device(), config_of(options)
    config = settled(asked, device, store, rebuild=options.rebuild)
    if config.model.licence_notice:
        note(config.model.licence_notice)
    outcome = driver.run(
        options.input,
        store,
        config,
        fan_out=saying(describe_dtype(asked, config, device), fan_out_here(store)),
        options=_run_options(options),
    )
    driver.keep_speed(config, outcome.run)
    return outcome


def _run_options(options: Namespace) -> RunOptions:
    """Return the options of a run that were asked for; `plan` has only some of them."""
    from pipeline.driver import RunOptions

    return RunOptions(**{name: getattr(options, name) for name in OPTIONS if hasattr(options, name)})


def compact(options: Namespace) -> None:
    """Join the small parts of a dataset; raises DamageError in the end for parts that were damaged, and left alone."""
    from pipeline import driver
    from pipeline.dataset import Store

    found = driver.compact(Store(root=Path(options.dataset)))
    parts = count(found.parts, "part")
    became = (
        f"{count(found.parts_before, 'part')} became {found.parts:,}" if found.joined else f"nothing to join in {parts}"
    )
    words = f"{became}: {count(found.rows, 'row')}, {found.size_bytes:,} bytes, 0 engine calls"
    say(options, msgspec.to_builtins(found), words)
    for damage in found.damaged:
        note(damage)
    if found.damaged:
        raise DamageError(
            f"dataset {options.dataset}: left {len(found.damaged):,} damaged parts as they are; "
            "`verify --repair` drops what is damaged, `run` makes it again"
        )
