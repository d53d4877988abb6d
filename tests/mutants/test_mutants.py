"""The mutants fit the tree as it is, and the runner tells what became of one."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.mutants import Mutant, read_mutants
from tests.mutants.__main__ import KILLED, SURVIVES, copy_tree, found_by, judge
from tests.support import REPOSITORY

MUTANTS = [mutant for area in read_mutants().values() for mutant in area]


def test_ids_are_unique() -> None:
    assert [id for id, n in Counter(mutant.id for mutant in MUTANTS).items() if n > 1] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_fits_the_tree(mutant: Mutant) -> None:
    assert (REPOSITORY / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
    named = [word.partition("::") for word in mutant.tests if ".py" in word]
    assert named
    for path, _, name in named:
        assert f"def {name.partition('[')[0]}" in (REPOSITORY / path).read_text(encoding="utf-8")


TESTS = """
import time
from counting import double

def test_doubles():
    assert double(2) == 4

def test_ends():
    while double(1) == 0:
        time.sleep(0.01)
"""
SOUND = Mutant(id="", wrong="", file="counting.py", old="2 * n", new="3 * n", tests=("test_counting.py",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "counting.py").write_text("def double(n):\n    return 2 * n\n")
    (tmp_path / "test_counting.py").write_text(TESTS)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, KILLED + "test_counting.py::test_doubles"),
        ({"new": "n + n"}, "SURVIVED"),
        ({"new": "n + n", "survives": "the same"}, SURVIVES),
        ({"survives": "the same"}, "has to survive, but killed by"),
        ({"new": "n * 0", "tests": ("test_counting.py", "-k", "ends")}, "HANGS"),
        ({"new": "n +"}, "BROKEN"),
        ({"old": "n"}, "not tried"),
    ],
)
def test_what_becomes_of_a_mutant(tree: Path, changed: dict[str, str], expected: str) -> None:
    sound = (tree / "counting.py").read_text()
    timeout_s = 5 if expected == "HANGS" else 120
    assert judge(tree, msgspec.structs.replace(SOUND, **changed), "", timeout_s=timeout_s).startswith(expected)
    assert (tree / "counting.py").read_text() == sound


def test_a_test_that_fails_anyway_kills_nothing(tree: Path) -> None:
    (tree / "counting.py").write_text("def double(n):\n    return 5 if n else 2 * n\n")
    assert judge(tree, SOUND, found_by(tree, SOUND.tests)).startswith("not tried, without it: killed by")


def test_a_copy_has_what_git_does_not_ignore(tree: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    (tree / ".gitignore").write_text("/out*/\n")
    (tree / "out").mkdir()
    (tree / "out/part").touch()
    copied = copy_tree(tree, tree / "out-copy")
    assert sorted(path.name for path in copied.iterdir()) == [".gitignore", "counting.py", "test_counting.py"]
