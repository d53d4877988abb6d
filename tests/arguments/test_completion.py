"""The scripts that make a shell complete: bash sources one and is asked what it proposes."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from pipeline.arguments import COMMANDS, parser
from tests.support import embed_corpus

# Asks the function that the script registers, as bash itself does when TAB is typed.
ASK = """
source "$1"; shift
words=(embed-corpus "$@")
spec=($(complete -p embed-corpus))
COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
"${spec[${#spec[@]}-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "embed-corpus"
    done = embed_corpus("completion", "bash")
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    return path


def proposed(script: Path, typed: str, folder: Path) -> list[str]:
    """Return what bash proposes for the last word of what is typed."""
    words = shlex.split(typed) + ([""] if typed.endswith(" ") else [])
    command = ["bash", "--norc", "-c", ASK, "bash", str(script), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(done.stdout.split())


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("ver", ["verify"]),
        ("run --inp", ["--input"]),
        ("run --input a --out", ["--output"]),
        ("run --input in", ["in.jsonl", "inner"]),
        ("run --output inn", ["inner"]),
        ("status ", ["inner"]),
        ("search inner --conf", ["--config"]),
        ("export inner --to par", ["parquet-f32"]),
        ("completion ", ["bash", "zsh"]),
    ],
)
def test_bash_completes_commands_flags_choices_and_paths(
    script: Path, tmp_path: Path, typed: str, names: list[str]
) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "in.jsonl").touch()
    assert proposed(script, typed, tmp_path) == names


def test_bash_knows_every_command_and_every_flag(script: Path, tmp_path: Path) -> None:
    assert proposed(script, " ", tmp_path) == sorted(command.name for command in COMMANDS)
    for name, command in parser().commands.items():
        assert proposed(script, f"{name} -", tmp_path) == sorted(command.flags)


def test_the_script_of_zsh_has_every_command() -> None:
    done = embed_corpus("completion", "zsh")
    assert done.stdout.startswith("#compdef embed-corpus\n")
    assert all(f"\n    {command.name}:" in done.stdout for command in COMMANDS)
