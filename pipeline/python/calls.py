"""Calls: the commands `plan` and `run`, with the names and the defaults of their flags."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.commands import check_made, made, planned, spooled
from pipeline.console import READING, screen
from pipeline.dataset import Store, output_folder, read_dataset, status
from pipeline.errors import UsageError


def plan(  # noqa: PLR0913  the flags of the command
    input: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    config: str | Path | None = None,
    model: str | Path | None = None,
    set: Sequence[str] = (),
    dim: int | None = None,
    limit: int | None = None,
    allow_untrained_dim: bool = False,
) -> dict[str, Any]:
    """Return what a run would take, as the object of `plan --json`; loads no engine and writes nothing.

    The flags are those of `embed-corpus plan`; `set` has values as "table.key=value". Raises the errors of
    pipeline.errors: UsageError for what cannot be used, RecipeError for an output of another recipe.
    """
    which = {"config": config, "model": model}
    options = _options(input, output, which, set, dim=dim, limit=limit, allow_untrained_dim=allow_untrained_dim)
    with _shown():
        found: dict[str, Any] = planned(options)
    return found


def run(  # noqa: PLR0913  the flags of the command
    input: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    config: str | Path | None = None,
    model: str | Path | None = None,
    set: Sequence[str] = (),
    dim: int | None = None,
    limit: int | None = None,
    allow_untrained_dim: bool = False,
    strict: bool = False,
    rebuild: bool = False,
    rehash: bool = False,
    keep_missing: bool = False,
    prune: bool = False,
    skip_bad_files: bool = False,
) -> dict[str, Any]:
    """Make the output reflect the input, and return the object of `status --json`.

    The flags are those of `embed-corpus run`; `set` has values as "table.key=value". What the run is at goes to
    sys.stderr. Raises the errors of pipeline.errors, whose exit codes those of the command are: among others
    IncompleteError where the same call has to be made again, and RemovalError where more rows would leave than may.
    """
    options = _options(
        input,
        output,
        {"config": config, "model": model},
        set,
        dim=dim,
        limit=limit,
        allow_untrained_dim=allow_untrained_dim,
        strict=strict,
        rebuild=rebuild,
        rehash=rehash,
        keep_missing=keep_missing,
        prune=prune,
        skip_bad_files=skip_bad_files,
    )
    with spooled(options, options.output) as options, _shown():
        outcome = made(options)
        check_made(outcome, options)
    store = Store(root=output_folder(options.output))
    found: dict[str, Any] = read_dataset(store, lambda manifest: status(store, manifest))
    return found


def _options(
    input: str | Path | Sequence[str | Path],
    output: str | Path | None,
    which: Mapping[str, str | Path | None],
    overrides: Sequence[str],
    **flags: object,
) -> Namespace:
    """Return what the parser of the command line makes of the same flags; `which` has the config or the model."""
    if None not in which.values():
        raise UsageError("expected a config or a model, found both")
    return Namespace(
        input=[str(input)] if isinstance(input, str | Path) else list(map(str, input)),
        output=None if output is None else str(output),
        **{flag: None if value is None else str(value) for flag, value in which.items()},
        set=[overrides] if isinstance(overrides, str) else list(overrides),
        **flags,
    )


@contextlib.contextmanager
def _shown() -> Any:
    """Show on stderr what a run is at; in a notebook that is not the terminal of its process."""
    with screen(stream=None if sys.stderr.isatty() else sys.stderr) as board:
        board.enter(READING)
        yield
