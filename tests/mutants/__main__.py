"""`python -m tests.mutants [AREA or id ...]`: try the mutants, all by default, and print what became of each.

Each is tried in a copy of the tree, by the tests that its entry names; they have to pass without it first. The exit
code is 1 unless every mutant is killed, and every one with a reason to survive survives.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants import Mutant, read_mutants
from tests.support import REPOSITORY

TIMEOUT_S = 240  # of all tests of a mutant
OPTIONS = ("-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow")
PASSED, FAILED = 0, 1  # exit codes of pytest; the others mean that it could not run the tests
SURVIVES = "survives, as it says"
KILLED = "killed by "


def main(chosen: Sequence[str]) -> int:
    """Try the chosen areas and ids, all where none is chosen; return the exit code."""
    areas = read_mutants()
    mutants = [m for area, all in areas.items() for m in all if not chosen or area in chosen or m.id in chosen]
    if unknown := set(chosen) - areas.keys() - {mutant.id for mutant in mutants}:
        print(f"expected areas ({', '.join(areas)}) or ids, found {', '.join(sorted(unknown))}", file=sys.stderr)  # noqa: T201
        return 2
    before: dict[tuple[str, ...], str] = {}
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(REPOSITORY, Path(folder) / "tree")
        for mutant in mutants:
            began = time.monotonic()
            if mutant.tests not in before:
                before[mutant.tests] = found_by(tree, mutant.tests)
            verdicts[mutant.id] = verdict = judge(tree, mutant, before[mutant.tests])
            row = (mutant.id, mutant.wrong, mutant.file, verdict, f"{time.monotonic() - began:.0f} s")
            print("|", " | ".join(row), "|", flush=True)  # noqa: T201
    wrong = [id for id, verdict in verdicts.items() if not is_right(verdict)]
    print(f"{len(verdicts)} mutants; {len(wrong)} not as they should be: {', '.join(wrong) or 'none'}")  # noqa: T201
    return 1 if wrong else 0


def is_right(verdict: str) -> bool:
    """Whether a mutant came to what it should."""
    return verdict == SURVIVES or verdict.startswith(KILLED)


def copy_tree(source: Path, to: Path) -> Path:
    """Copy what git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file():  # else it was deleted, and that is not committed
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, to / name)
    return to


def judge(tree: Path, mutant: Mutant, before: str, timeout_s: float = TIMEOUT_S) -> str:
    """Return what becomes of a mutant in a tree, which is unchanged afterwards; `before` is what its tests find now."""
    if before:
        return f"not tried, without it: {before}"
    path = tree / mutant.file
    sound = path.read_text(encoding="utf-8")
    if sound.count(mutant.old) != 1:
        return f"not tried: expected its text once in the file, found it {sound.count(mutant.old)} times"
    path.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        found = found_by(tree, mutant.tests, timeout_s)
    finally:
        path.write_text(sound, encoding="utf-8")
    if mutant.survives:
        return f"has to survive, but {found}" if found else SURVIVES
    return found or "SURVIVED"


def found_by(tree: Path, tests: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
    """Run tests until one fails; return KILLED and its name, what went wrong otherwise, or "" where all pass."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *OPTIONS, *tests],
            cwd=tree,
            # A file of bytecode is taken for current where size and second of its source are the same.
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"HANGS, for more than {timeout_s} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what the tests have started, too
            process.wait()
        out.seek(0)
        said = out.read()
    if code == PASSED:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", said, re.MULTILINE)
    if code != FAILED or not failed:
        return f"BROKEN, pytest ends with {code}: {' '.join(said.split())[-200:]}"
    return KILLED + failed[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
