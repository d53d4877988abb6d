"""The command line in a process of its own, forked off one that has imported what commands import.

From nothing a command takes half a second of a processor before it begins, which is more than most do in the tests.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.support.crash", "pipeline.driver", "pandas.util"])  # once, for all who fork
ENVIRONMENT = dict(os.environ)
READ_LATE = {"PYTEST_CURRENT_TEST", "XDG_CACHE_HOME"}  # by no module as it is imported


def is_usual(env: Mapping[str, str]) -> bool:
    """Whether modules that were imported in this environment are what they would be in `env`."""
    return all(env.get(name) == ENVIRONMENT.get(name) for name in (env.keys() | ENVIRONMENT.keys()) - READ_LATE)


def run_forked(arguments: Sequence[str], env: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run `python -m pipeline`, the first of `arguments` being its name; raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = PROCESSES.Process(target=_main, args=(arguments, env, Path.cwd(), out, err))
        process.start()
        try:
            process.join(timeout_s)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(arguments, timeout_s)
        finally:
            process.kill()
            process.join()
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _main(arguments: Sequence[str], env: Mapping[str, str], folder: Path, out: Path, err: Path) -> None:
    for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115  until the end
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = list(arguments)
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
