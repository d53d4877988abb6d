"""How the source speaks: the words of the field, in sentences that a non-native reader gets at once."""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path

import pytest

from tests.support import REPOSITORY

SOURCES = sorted(path for folder in ("pipeline", "jobs", "scripts") for path in (REPOSITORY / folder).rglob("*.py"))
# Private dialect, for: is, has, keep, callers, says.
BANNED = re.compile(r"\b(stands?|standing|stood|lies?|lay|laid|whoever|told)\b", re.IGNORECASE)


def words_of(path: Path) -> list[str]:
    """Return the docstrings and comments of a source."""
    with path.open("rb") as file:
        comments = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    return [*comments, *filter(None, map(ast.get_docstring, nodes))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_the_source_uses_the_words_of_the_field(path: Path) -> None:
    assert [text for text in words_of(path) if BANNED.search(text)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_what_is_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    public = [
        node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
