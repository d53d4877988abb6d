"""Pairs: programs that are compared run in turns, each time in a fresh process, so that all meet the same machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import REPOSITORY

Run = dict[str, Any]
CACHE = REPOSITORY / "build/bench/cache"  # what runs find of the speed of engines is none of the user's


def apart(module: str, *arguments: str | Path, timeout_s: float = 3600) -> Run:
    """Run `python -m MODULE` and return the JSON object that is the last line of its output.

    Raises RuntimeError with the end of its stderr where it fails.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    env = {**os.environ, "XDG_CACHE_HOME": str(CACHE)}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    found: Run = json.loads(done.stdout.splitlines()[-1])
    return found


def sets(overrides: Iterable[str]) -> list[str]:
    """Return the flags that set keys of a config, each given as "table.key=value"."""
    return [word for each in overrides for word in ("--set", each)]


def in_turns(programs: Mapping[str, Callable[[], Run]], n_turns: int) -> dict[str, list[Run]]:
    """Call each program once a turn, every other turn in the opposite order; return what they gave, by name."""
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for turn in range(n_turns):
        for name in list(programs)[:: 1 if turn % 2 == 0 else -1]:
            runs[name].append(programs[name]())
    return runs


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return how values compare that were measured in the same turns: medians, their ratio, and the turns' ratios."""
    of_turns = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "ratio_of_medians": statistics.median(ours) / statistics.median(theirs),
        "median_of_ratios": statistics.median(of_turns),
        "least": min(of_turns),
        "most": max(of_turns),
    }
