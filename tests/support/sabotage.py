"""A copy of the command line whose hashing engine does what a test wants, and says what it was given."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.support import HASHING, REPOSITORY

EMBED = "    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:\n"
# One atomic line for each call, before its work: what a killed process had begun counts too. Canaries sing alone.
TELL = """
    import os, signal, time, zlib
    def tell(*words):
        log = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, (" ".join(map(str, words)) + chr(10)).encode())
        os.close(log)
    def holds(word, ids=token_ids):
        return any(zlib.crc32(word.encode()) in one for one in ids)
    tell(os.getpid(), len(token_ids))
"""


class Tree:
    """A folder with a changed copy of pipeline/; commands run in it."""

    def __init__(self, folder: Path, engine: str = "") -> None:
        self.folder = folder
        self.log = folder / "engine.log"
        for name in ("pipeline", "configs"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self._source = folder / "pipeline/engines/hashing.py"
        self._original = self._source.read_text()
        self.engine(engine)

    def engine(self, code: str) -> None:
        """Let every call of the engine begin with `code`, which has `tell`, `holds` and `token_ids`."""
        begin = textwrap.indent(textwrap.dedent(TELL.format(log=str(self.log))) + textwrap.dedent(code), " " * 8)
        self._source.write_text(self._original.replace(EMBED, f"{EMBED}{begin}\n"))

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *map(str, arguments)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, source: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
        with self.start("run", "--input", source, "--output", output, *HASHING, *more) as process:
            stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def embedded(self) -> int:
        """Return how many texts all engines of this tree were given, their canaries left out."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return sum(int(line.split()[1]) for line in lines if not line.endswith(" 1"))
