"""docs/search.md says what is so: its commands and its Python find what they ask for, and its conditions are some."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tools.search.where import parse_where
from tests.support import HASHING, REPOSITORY, embed_corpus, texts, write_jsonl

DOCUMENT = (REPOSITORY / "docs/search.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset `out`."""
    folder = tmp_path_factory.mktemp("docs")
    write_jsonl(folder / "in/a.jsonl", texts(50))
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / "out", *HASHING)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_runs_as_it_is_written(folder: Path, line: str) -> None:
    here = line.replace("embed-corpus", f"{sys.executable} -m pipeline")
    done = subprocess.run(["bash", "-c", here], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "doc-" in done.stdout


def test_the_python_runs_as_it_is_written(folder: Path) -> None:
    [block] = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", block], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("doc-") == 9


def test_the_conditions_of_the_table_are_conditions() -> None:
    rows = re.findall(r"^\| (?:compare|one of|null|boolean) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    examples = [example for row in rows for example in re.findall("`([^`]*)`", row)]
    assert len(examples) == 12
    for example in examples:
        parse_where(example)
