"""The command that answers queries."""

from __future__ import annotations

import contextlib
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from pipeline.commands.asked import named_of, say
from pipeline.commands.hits import describe_hit
from pipeline.console import LOADING, Stopped, note, screen
from pipeline.dataset import Store, open_dataset, status
from pipeline.errors import UsageError
from pipeline.shipped import find_config

PROMPT = "search> "
NO_COLUMNS = 100  # of what is no terminal and does not say how wide it is (COLUMNS)
INTERRUPTED = 130  # the exit code of Ctrl-C


def search(options: Namespace) -> None:
    """Find the passages nearest to a query, or with `-i` to each line of stdin until an empty one."""
    from pipeline.tools import Searcher

    if options.k < 1:
        raise UsageError(f"search: expected -k of at least 1, found {options.k}")
    if not options.i and not (options.query or "").strip():
        found = "none" if options.query is None else "nothing but white space"
        raise UsageError(f"search: expected a query, found {found}; -i asks for them")
    store = Store(root=Path(options.dataset))
    asked = find_config(options.config) if options.config else None
    config = named_of(options, options.model).config if options.model else asked
    searcher = Searcher(store, config=config, overrides=options.set, keeps=options.i)
    _tell_what_is_missing(store)
    with screen() as board:
        board.enter(LOADING)
        searcher.prepare(options.where)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    columns, is_terminal = shutil.get_terminal_size((NO_COLUMNS, 24)).columns, sys.stdout.isatty()
    for number, query in enumerate(_queries(options)):
        hits = searcher.find(query, options.k, options.where)
        if number and not options.json:
            print()
        if hits or options.json:
            lines = (line for hit in hits for line in describe_hit(hit, columns, cuts=is_terminal))
            say(options, hits, "\n".join(lines))
        else:
            note("search: nothing found" + (f" where {options.where}" if options.where else ""))
        sys.stdout.flush()


def _queries(options: Namespace) -> Iterator[str]:
    if options.query:
        yield options.query
    while options.i and (line := _asked().strip()):
        yield line


def _asked() -> str:
    """Return the next line of stdin; "" at its end, and where a person at a terminal ends it by Ctrl-C."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  gives `input` arrows and a history
    is_shown = sys.stdout.isatty()
    if not is_shown:
        print(PROMPT, end="", file=sys.stderr, flush=True)
    try:
        return input(PROMPT if is_shown else "")
    except EOFError:
        print(file=sys.stderr)
    except Stopped as stop:
        if stop.exit_code != INTERRUPTED:
            raise
        print(file=sys.stderr)
    return ""


def _tell_what_is_missing(store: Store) -> None:
    """Say on stderr where a dataset is not whole, or is being changed."""
    found = status(store, open_dataset(store))
    missing = found["planned_rows"] - found["input_rows"]
    rows = f"{missing:,} of {found['planned_rows']:,} rows are missing" if missing else "rows may be missing"
    if found["state"] == "running":
        note(f"dataset {store.root}: a run is changing it, and what is found may be of before; {rows}")
    elif found["state"] != "complete":
        note(f"dataset {store.root}: {found['state']}, {rows}; `embed-corpus run` completes it")
