"""Environments of the peers: each its own below build/bench/venvs, of the versions in requirements/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.peers.catalogue import Peer
from tests.support import REPOSITORY

BUILD = REPOSITORY / "build/bench"
REQUIREMENTS = Path(__file__).parent / "requirements"
OVERRIDES = REPOSITORY / "requirements.overrides"


def python_of(peer: Peer) -> Path:
    """Return the interpreter of a peer's environment, which is made where it is missing.

    Raises RuntimeError with the last line of the installer where it cannot be.
    """
    if not peer.venv:
        return Path(sys.executable)
    folder = BUILD / "venvs" / peer.venv
    python = folder / "bin/python"
    wanted = (REQUIREMENTS / f"{peer.venv}.txt").read_text()
    stamp = folder / "complete"
    if not stamp.exists() or stamp.read_text() != wanted:
        uv = str(Path(sys.executable).with_name("uv"))
        shutil.rmtree(folder, ignore_errors=True)
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
        _run([*install, "--overrides", str(OVERRIDES), "--requirements", str(REQUIREMENTS / f"{peer.venv}.txt")])
        stamp.write_text(wanted)
    return python


def model_of(peer: Peer, model: Path) -> Path:
    """Return the folder of the model as a peer wants it, exported where that was not done; raises RuntimeError."""
    if not peer.exported:
        return model
    folder = BUILD / "models" / peer.exported
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = ["-m", "tests.benchmarks.peers.exported", peer.exported, str(model), str(folder)]
        _run([str(python_of(peer)), *command])
    return folder


def version_of(peer: Peer) -> str:
    """Return the version of a peer's package in its environment."""
    asked = f"from importlib.metadata import version; print(version({peer.package!r}))"
    return _run([str(python_of(peer)), "-c", asked]).strip()


def last_line(text: str) -> str:
    """Return the last line with words in it: where programs say what went wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")


def _run(command: list[str]) -> str:
    found = os.environ.get("PIP_FIND_LINKS", "")
    links = (
        {"UV_FIND_LINKS": found.replace(" ", ",")} if found else {"UV_TORCH_BACKEND": "cpu"}
    )  # as scripts/setup does
    environment = {**os.environ, **links, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(last_line(done.stderr))
    return done.stdout
