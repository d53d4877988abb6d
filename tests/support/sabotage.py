"""The command line with a fake in place of the hashing engine: it does what a test wants and logs what it is given."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.support import HASHING, REPOSITORY

FAKE_ENGINE = """\
import os, signal, time, zlib
from dataclasses import replace

import numpy as np

from pipeline.config import ENGINES
from pipeline.engines.hashing import HashingEmbedder

OWN = ("canary", "paid", "rice", "warm")  # a word of each text that is of the pipeline, not of a corpus

class FakeEngine(HashingEmbedder):
    def embed(self, token_ids):
        def holds(word, ids=token_ids):
            return any(zlib.crc32(word.encode()) in one for one in ids)

        n_texts = 0 if any(map(holds, OWN)) else len(token_ids)
{code}
        return super().embed(token_ids)

ENGINES["hashing"] = replace(ENGINES["hashing"], make=f"{{__name__}}:FakeEngine")
"""
RUN = """
if __name__ == "__main__":
    from pipeline.cli import main
    raise SystemExit(main())
"""
# One atomic line for each call, before its work: what a killed process had begun counts too.
LOG = """
log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(log, f"{{os.getpid()}} {{n_texts}}\\n".encode())
os.close(log)
"""


def fake_engine(code: str) -> str:
    """Return a module that enters a fake as the hashing engine.

    Each call begins with `code`, which has `token_ids`, `n_texts` of a corpus among them, and `holds(word)`.
    """
    return FAKE_ENGINE.format(code=textwrap.indent(textwrap.dedent(code), " " * 8))


class FakedCommand:
    """The command line as a script that enters a fake engine first, after the code `before`."""

    def __init__(self, folder: Path, code: str = "", *, before: str = "") -> None:
        folder.mkdir()
        self._before = before
        self.log = folder / "engine.log"
        self._script = folder / "faked_command.py"
        self.engine(code)

    def engine(self, code: str = "") -> None:
        """Let every call of the engine begin with `code` from now on."""
        self._script.write_text(self._before + fake_engine(LOG.format(log=str(self.log)) + textwrap.dedent(code)) + RUN)

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line as a list."""
        return ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, str(self._script), *map(str, arguments)]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, self._script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, source: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
        with self.start("run", "--input", source, "--output", output, *HASHING, *more) as process:
            stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def embedded(self) -> int:
        """Return how many texts of a corpus all its engines were given."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return sum(int(line.split()[1]) for line in lines)
