"""docs/models.md: its commands have the flags that there are, and its table is what the shipped configs say."""

from __future__ import annotations

import re
import shlex

import pytest

from pipeline.arguments import parse
from pipeline.config import load_config
from pipeline.shipped import shipped_configs
from tests.support import REPOSITORY

DOCS = (REPOSITORY / "docs/models.md").read_text()
LINES = [
    line.split("  #")[0].split(" > ")[0]
    for block in re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)
    for line in block.splitlines()
    if "embed-corpus " in line.split("'")[0]
]


def test_there_are_commands() -> None:
    assert len(LINES) >= 6


@pytest.mark.parametrize("line", LINES)
def test_a_command_has_the_flags_that_there_are(line: str) -> None:
    program, *arguments = shlex.split(line)
    assert program.endswith("embed-corpus")
    assert parse(arguments).command in ("models", "plan", "run", "init", "golden")


@pytest.mark.parametrize("name", shipped_configs())
def test_the_table_says_what_a_config_says(name: str) -> None:
    model = load_config(shipped_configs()[name]).model
    [row] = [line for line in DOCS.splitlines() if line.startswith(f"| `{name}` |")]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2] == model.name
    assert cells[4:7] == [", ".join(map(str, model.dims)), f"{model.max_tokens:,}", model.licence]
