"""The spool: what comes through a pipe is written to a file first, so that a run can go on with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.console import note
from pipeline.errors import CorpusError, OutputLockedError, UsageError

PIPED = "-"  # as an input: JSON lines on stdin
NAME = "stdin.jsonl"  # a shard of the same name in every run of an output


@contextlib.contextmanager
def spooled(options: Namespace, output: str | None = None) -> Iterator[Namespace]:
    """Yield the options with a file in place of stdin, which is read to its end first; other options as they are.

    With an output the file is in a folder beside it. It goes only where all went well, also in a run that goes on with
    it. Raises UsageError for a terminal, CorpusError for an empty pipe, OutputLockedError for a file that another run
    reads and OutputError for one that cannot be written.
    """
    is_piped = PIPED in options.input
    if is_piped and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError(
            "--input -: expected JSON lines through a pipe, found a terminal; such as "
            "`zcat rows.jsonl.gz | embed-corpus run --input - --output vectors/`"
        )
    path = spool_of(output) if output is not None else None
    if not (is_piped or (path and path.is_file() and str(path) in map(os.path.abspath, options.input))):
        yield options
        return
    with _held(path.parent) if path else tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / NAME
        if is_piped:
            n_bytes = _write(file)
            if path:
                note(f"stdin: {n_bytes:,} bytes are in {file} until the run is complete; --input {file} goes on")
        yield Namespace(**vars(options) | {"input": [str(file) if each == PIPED else each for each in options.input]})
        file.unlink()


def going_on(arguments: Sequence[str], options: Namespace) -> list[str]:
    """Return the arguments that go on with a run: those that were typed, with its file in place of stdin."""
    if PIPED not in options.input:
        return list(arguments)
    file = str(spool_of(options.output))
    return [f"{each[:-1]}{file}" if each.removeprefix("--input=") == PIPED else each for each in arguments]


def spool_of(output: str) -> Path:
    """Return where a run into an output keeps what is piped to it."""
    folder = Path(os.path.abspath(output))  # noqa: PTH100  a link keeps its name
    return folder.with_name(f"{folder.name}.input") / NAME


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """Yield a folder that no other process holds meanwhile; it goes with its last file where all went well."""
    from pipeline.files import writing  # no more of the command line waits for pyarrow

    with writing(folder):
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
        with contextlib.suppress(OSError):  # of someone who keeps a file in it
            folder.rmdir()
    finally:
        os.close(descriptor)


def _write(path: Path) -> int:
    """Write stdin to a file, whole or not at all; return its bytes."""
    from pipeline.files import writing

    begun = path.with_suffix(".tmp")
    with writing(path), contextlib.ExitStack() as on_leaving:
        on_leaving.callback(begun.unlink, missing_ok=True)
        with begun.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        n_bytes = begun.stat().st_size
        if not n_bytes:
            raise CorpusError("--input -: expected JSON lines, found an empty pipe: what feeds it may have failed")
        begun.replace(path)
    return n_bytes
