"""The commands that change an output, and the one that tells what a run would take."""

from __future__ import annotations

import shlex
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.commands.asked import config_of, say, settled, typed
from pipeline.console import READING, in_one_line, note, screen
from pipeline.dataset import Store, output_folder
from pipeline.errors import DamageError, IncompleteError

if TYPE_CHECKING:
    from pipeline.driver import Outcome


def plan(options: Namespace) -> None:
    """Tell what a run would take."""
    from pipeline.dataset import describe_plan
    from pipeline.driver import RunOptions, estimate, make_plan, rate_of
    from pipeline.model import this_device

    with tempfile.TemporaryDirectory() as empty:
        store = Store(root=Path(empty) if options.output is None else output_folder(options.output))
        config = settled(config_of(options), this_device(), store)
        there = make_plan(options.input, store, config, RunOptions(limit=options.limit, streams=True))
        found = estimate(there, store, config, rate_of(config, there.inventory.kept.values()))
    say(options, found, "\n".join(map(in_one_line, describe_plan(found))))


def run(options: Namespace) -> None:
    """Make the output reflect the input; raises IncompleteError when it does not."""
    with screen(typed(sys.argv)) as board:
        board.enter(READING)
        outcome = _run(options)
    from pipeline.dataset import describe_run

    sums = outcome.totals
    for source in outcome.run.skipped_files:
        note(f"skipped {source}")
    place = shlex.quote(options.output)
    steps = (
        ()
        if outcome.run.missing_chunks
        else (f'embed-corpus search {place} "your words"', f"embed-corpus verify {place}")
    )
    for line in describe_run(sums | msgspec.to_builtins(outcome.run), options.output, next_steps=steps):
        print(in_one_line(line))
    if shortfall := outcome.shortfall():
        raise IncompleteError(f"output {options.output}: {shortfall}")
    if options.strict and sums["rejected_rows"]:
        raise IncompleteError(
            f"output {options.output}: expected every row embedded (--strict), found {sums['rejected_rows']:,} "
            "rejected; `embed-corpus rejects` lists them"
        )


def _run(options: Namespace) -> Outcome:
    from pipeline import driver
    from pipeline.driver import RunOptions, fan_out_here, saying
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
        options=RunOptions(
            limit=options.limit,
            skip_bad_files=options.skip_bad_files,
            rebuild=options.rebuild,
            rehash=options.rehash,
            keep_missing=options.keep_missing,
            prune=options.prune,
        ),
    )
    driver.keep_speed(config, outcome.run.engine_tokens, outcome.run.engine_s)
    return outcome


def compact(options: Namespace) -> None:
    """Join the small parts of a dataset; raises DamageError in the end for parts that were damaged, and left alone."""
    from pipeline import driver

    found = driver.compact(Store(root=Path(options.dataset)))
    became = "{parts_before:,} parts became {parts:,}" if found.joined else "nothing to join in {parts:,} parts"
    words = became + ": {rows:,} rows, {size_bytes:,} bytes, 0 engine calls"
    table = msgspec.to_builtins(found)
    say(options, table, words.format(**table))
    for damage in found.damaged:
        note(damage)
    if found.damaged:
        raise DamageError(
            f"dataset {options.dataset}: left {len(found.damaged):,} damaged parts as they are; "
            "`verify --repair` drops what is damaged, `run` makes it again"
        )
