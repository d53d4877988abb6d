"""Every benchmark of a machine without a GPU, one after the other; `make bench` runs this.

Exit code 0 says that each could run and compares what is the same, whether or not it meets its goals.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.results import arguments_of
from tests.benchmarks.table import missed, read_results, section
from tests.support import REPOSITORY

STEPS = ("overhead", "rows", "bare", "peers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks, print and write their table, and name the goals that were missed."""
    asked = arguments_of(__doc__ or "", turns=0).parse_args(arguments)
    flags = ["--folder", str(asked.folder.absolute())]
    flags += ["--turns", str(asked.turns)] if asked.turns else []  # else as many as each has by itself
    asked.folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for step in filter(_is_there, STEPS):
        (asked.folder / f"{step}.json").unlink(missing_ok=True)
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"tests.benchmarks.{step}", *flags], cwd=REPOSITORY)
        print(f"{step}: {time.monotonic() - began:.0f} s, exit code {done.returncode}\n", flush=True)
        if done.returncode:
            failed.append(step)
    results = read_results(asked.folder)
    (asked.folder / "table.md").write_text("\n".join(map(section, results)))
    print(*missed(results), f"{asked.folder}: {len(results)} results; failed: {', '.join(failed) or 'none'}", sep="\n")
    return 1 if failed else 0


def _is_there(step: str) -> bool:
    """Whether a benchmark is a file, or a folder that can be run."""
    here = Path(__file__).parent
    return (here / f"{step}.py").exists() or (here / step / "__main__.py").exists()


if __name__ == "__main__":
    sys.exit(main())
