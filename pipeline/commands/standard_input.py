"""Standard input as an input: JSON lines are kept in a file first, so that a run that is stopped can go on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from pipeline.console import note
from pipeline.errors import OutputLockedError, UsageError

NAMED = "-"
LINES = "stdin.jsonl"  # a shard of the same name in every run of an output


@contextlib.contextmanager
def spooled(options: Namespace) -> Iterator[None]:
    """Let `options.input` name a file with the lines of standard input meanwhile, where it named that.

    That of a run is in the user's cache folder, by the output, and stays there until a run of it is whole. Raises
    UsageError where nothing is piped, and OutputLockedError where another run reads for the same output.
    """
    is_asked, is_run = NAMED in options.input, options.command == "run" and not options.dry_run
    if is_asked:
        _check_piped(options)
    if not is_asked and not (is_run and _is_kept(options)):
        yield
        return
    with _held(_folder(options.output)) if is_run else tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LINES
        if is_asked:
            _spool(path)
            options.input = [str(path)]
        if is_asked and is_run:
            kept = f"{path.stat().st_size:,} bytes kept until this run is whole"
            note(f"input -: {kept}; where it is stopped, --input {shlex.quote(str(path))} goes on")
        yield
        path.unlink()


def _check_piped(options: Namespace) -> None:
    if len(options.input) > 1:
        raise UsageError(f"--input -: expected standard input alone, found {len(options.input) - 1} more inputs")
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("--input -: expected JSON lines from a pipe, found a terminal; pipe them, or name a file")


def _is_kept(options: Namespace) -> bool:
    """Whether the input is what an earlier run of the same output kept."""
    return Path(options.input[0]).name == LINES and options.input == [str(_folder(options.output) / LINES)]


def _folder(output: str) -> Path:
    from pipeline.corpus import root_key
    from pipeline.driver import cache_folder

    return cache_folder() / "stdin" / root_key(Path(output))


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """Yield a folder, which is made, and which no other process holds meanwhile; it goes if nothing is in it."""
    with _in_one_line(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputLockedError(
                f"--input: expected no other run of this output, found one that reads {folder}; wait for its end"
            ) from error
        yield folder
        folder.rmdir()
    finally:
        os.close(descriptor)


def _spool(path: Path) -> None:
    """Write standard input to a file, whole or not at all; raises UsageError where that is nothing."""
    begun = path.with_suffix(".tmp")
    with _in_one_line(path.parent), contextlib.ExitStack() as on_leaving:
        on_leaving.callback(begun.unlink, missing_ok=True)
        with begun.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        if not begun.stat().st_size:
            raise UsageError("--input -: expected JSON lines from a pipe, found nothing")
        begun.replace(path)


@contextlib.contextmanager
def _in_one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"--input -: expected room for its lines in {folder}, found: {error.strerror}; XDG_CACHE_HOME (TMPDIR for "
            "a plan) chooses another folder"
        ) from error
