"""Command lines one after another in one process, which imports an engine once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tests.support import REPOSITORY


@dataclass(frozen=True, slots=True)
class Call:
    """One command line, and what it takes for /proc/cpuinfo; None is this machine's."""

    arguments: Sequence[str | Path]
    cpuinfo: str | None = None


def run_all(calls: Sequence[Call], *, timeout_s: float = 600) -> list[subprocess.CompletedProcess[str]]:
    """Run command lines as `embed_corpus` does, all in one process that is not this one."""
    told = [([str(word) for word in call.arguments], call.cpuinfo) for call in calls]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.many"],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    return [
        subprocess.CompletedProcess(call.arguments, *each)
        for call, each in zip(calls, json.loads(done.stdout), strict=True)
    ]


def main() -> None:
    """Read the calls from stdin and write [code, stdout, stderr] of each to stdout."""
    import pipeline.model.dtype
    from pipeline.cli import main

    found, cpuinfo_here = [], pipeline.model.dtype._cpuinfo()
    for arguments, cpuinfo in json.load(sys.stdin):
        setattr(pipeline.model.dtype, "_cpuinfo", partial(str, cpuinfo or cpuinfo_here))  # noqa: B010  not a name it exports
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            with redirected(1, out), redirected(2, err):
                code = main(arguments)
            out.seek(0)
            err.seek(0)
            found.append([code, out.read(), err.read()])
    json.dump(found, sys.stdout)


@contextlib.contextmanager
def redirected(number: int, file: IO[str]) -> Iterator[None]:
    """Let a file descriptor lead into a file, for C++ as well."""
    stream = {1: sys.stdout, 2: sys.stderr}[number]
    stream.flush()
    kept = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(kept, number)
        os.close(kept)


if __name__ == "__main__":
    main()
