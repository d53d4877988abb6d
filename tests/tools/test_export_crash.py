"""kill -9 in the middle of an export: its destination is what it was, nothing, or whole, and the next call succeeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.arguments import FORMATS
from tests.support import REPOSITORY, embed_corpus
from tests.support.crash import crashing_command
from tests.support.vectors import write_dataset

N_PARTS = 4
DYING = """
import itertools, os, signal, sys
from pipeline.cli import main
from pipeline.tools.passages import Passages

number = itertools.count()
pieces = Passages.pieces

def dying(self, columns=()):
    for piece in pieces(self, columns):
        if next(number) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece

Passages.pieces = dying
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of four parts."""
    return write_dataset(tmp_path_factory.mktemp("crash") / "out", N_PARTS, 50, dim=16).root


def contents(path: Path) -> dict[str, bytes]:
    """Return what an export has, without what differs between two of the same dataset; nothing where there is none."""
    if path.is_file():
        return {"": path.read_bytes()}
    files = [file for file in path.rglob("*") if file.is_file()]
    return {"".join(c for c in file.name if not c.isdigit())[-12:]: file.read_bytes() for file in files}


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("replaces", [False, True])
def test_between_any_two_pieces(output: Path, tmp_path: Path, target: str, replaces: bool) -> None:
    destination = tmp_path / "dest"
    n_pieces = N_PARTS * (2 if target == "int8" else 1)
    if replaces:
        assert embed_corpus("export", output, "--to", "npy", destination).returncode == 0
    before = contents(destination)
    for at in (0, n_pieces - 2):
        command = [sys.executable, "-c", DYING, str(at), "export", str(output), "--to", target, str(destination)]
        env = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"}
        assert subprocess.run(command, env=env).returncode == -signal.SIGKILL
        assert contents(destination) == before
        assert (tmp_path / ".dest.export").exists()  # what it has written so far
    done = embed_corpus("export", output, "--to", target, destination)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["dest"]


@pytest.mark.parametrize(("first", "second"), [("npy", "faiss"), ("int8", "binary"), ("binary", "pgvector")])
def test_before_each_change_of_a_file(output: Path, tmp_path: Path, first: str, second: str) -> None:
    folder = tmp_path / "exports"
    for target in (first, second):
        assert embed_corpus("export", output, "--to", target, tmp_path / target).returncode == 0
    old, new = (contents(tmp_path / target) for target in (first, second))
    kill_at, seen = 0, []
    while True:
        crashing_command(folder, None, "export", output, "--to", first, folder / "dest")
        assert contents(folder / "dest") == old
        ended = crashing_command(folder, kill_at, "export", output, "--to", second, folder / "dest")
        seen.append(contents(folder / "dest"))
        if not ended.killed:
            break
        assert seen[-1] in (old, new, {})
        kill_at += 1
        assert not crashing_command(folder, None, "export", output, "--to", second, folder / "dest").killed
        assert contents(folder / "dest") == new
        assert [path.name for path in folder.iterdir()] == ["dest"]
    assert kill_at >= 5
    assert old in seen
    assert seen[-1] == new
