"""docs/export.md says what is so: its commands run and its recipes find the passage that they ask for."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.arguments import FORMATS
from tests.support import HASHING, REPOSITORY, embed_corpus, texts, write_jsonl

DOCUMENT = (REPOSITORY / "docs/export.md").read_text()
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset `out`, where the commands of the document were run."""
    folder = tmp_path_factory.mktemp("docs")
    write_jsonl(folder / "in/a.jsonl", texts(300))
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / "out", *HASHING)
    assert done.returncode == 0, done.stderr
    commands = [shlex.split(line)[1:] for block in blocks("sh") for line in block.splitlines()]
    assert [command[3] for command in commands if command[0] == "export"] == list(FORMATS)
    assert [command[0] for command in commands[len(FORMATS) :]] == ["quality", "quality"]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)
    return folder


def test_every_format_is_in_the_table() -> None:
    assert re.findall(r"^\| `([\w-]+)` \|", DOCUMENT, re.MULTILINE) == list(FORMATS)


@pytest.mark.parametrize("recipe", blocks("python"), ids=lambda recipe: re.findall(r'"([\w.-]+)[/"]', recipe)[0])
def test_a_recipe_runs_as_it_is_written(folder: Path, recipe: str) -> None:
    done = subprocess.run([sys.executable, "-c", recipe], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "doc-0" in done.stdout or "float" in done.stdout
