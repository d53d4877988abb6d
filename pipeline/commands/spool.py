"""The spool: what comes through a pipe is written to a file first, so that a run can go on with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.console import note
from pipeline.errors import CorpusError, UsageError

PIPED = "-"  # as an input: JSON lines on stdin
NAME = "stdin.jsonl"


@contextlib.contextmanager
def spooled(options: Namespace, output: str | None = None) -> Iterator[Namespace]:
    """Yield the options with a file in place of stdin, which is read to its end first; other options as they are.

    With an output the file is in a folder beside it, and is removed only where all went well. Raises UsageError for a
    terminal, CorpusError for an empty pipe and OutputError for a file that cannot be written.
    """
    if PIPED not in options.input:
        yield options
        return
    if sys.stdin.isatty():
        raise UsageError(
            "--input -: expected JSON lines through a pipe, found a terminal; such as "
            "`zcat rows.jsonl.gz | embed-corpus run --input - --output vectors/`"
        )
    if output is None:
        with tempfile.TemporaryDirectory() as folder:
            yield _with_file(options, _written(Path(folder) / NAME))
        return
    path = _written(spool_of(output))
    note(f"stdin: its {path.stat().st_size:,} bytes are in {path} until the run is complete; --input {path} goes on")
    yield _with_file(options, path)
    path.unlink()
    with contextlib.suppress(OSError):  # of someone who keeps a file in it
        path.parent.rmdir()


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


def _written(path: Path) -> Path:
    from pipeline.files import writing  # no more of the command line waits for pyarrow

    unfinished = path.with_name(f".{path.name}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
            n_bytes = file.tell()
        unfinished.replace(path)
    if not n_bytes:
        raise CorpusError("--input -: expected JSON lines, found an empty pipe: what feeds it may have failed")
    return path


def _with_file(options: Namespace, path: Path) -> Namespace:
    return Namespace(**vars(options) | {"input": [str(path) if each == PIPED else each for each in options.input]})
