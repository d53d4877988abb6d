"""Rows: what a row costs in time and memory, from ten thousand of them to ten million."""

from __future__ import annotations

import statistics
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.conditions import corpus
from tests.benchmarks.corpora import write_short
from tests.benchmarks.overhead import instant
from tests.benchmarks.pairs import Run, apart, in_turns
from tests.benchmarks.results import Figure, arguments_of, finish
from tests.support import texts

FEW = 100  # rows, whose run costs what every run costs
SHORT = (10_000, 100_000, 1_000_000)
FULL = (*SHORT, 10_000_000)
MEASURE = 100_000  # rows, that the others are compared with
GOAL = 1.1
WIDTH = 64  # of the vectors, so that ten million fit on a disk
WHAT = (
    f"A whole run with an engine that answers at once, {WIDTH} dims, one Parquet file of short texts, chunks of 65,536 "
    f"words, each in a fresh process, in turns. A row's time is that of the run less that of one of {FEW} rows, which "
    f"is what every run costs, for each row; memory is the peak of the process. Values: the medians over the turns, "
    "as shares of those of one number of rows."
)


def ours(source: Path, folder: Path) -> Run:
    """Run the pipeline on a file into a folder that is removed at once."""
    with tempfile.TemporaryDirectory(dir=folder) as output:
        return apart(
            "tests.benchmarks.ours", source, Path(output) / "out", *instant(f"model.dims=[{WIDTH}]"), timeout_s=4 * 3600
        )


def row_us(runs: Mapping[int, Sequence[Run]], few: Sequence[Run], clock: str = "wall_s") -> dict[int, float]:
    """Return the microseconds of a row by the number of rows, the median over turns; `clock` is a key of runs."""
    return {
        n: statistics.median(
            1e6 * (run[clock] - start[clock]) / (n - start["input_rows"]) for run, start in zip(made, few, strict=True)
        )
        for n, made in runs.items()
    }


def figures_of(runs: Mapping[int, Sequence[Run]], few: Sequence[Run], measure: int) -> list[Figure]:
    """Return two lines for each number of rows: a row's time and the memory, as shares of those at `measure` rows."""
    took_us, cpu_us = row_us(runs, few), row_us(runs, few, "cpu_s")
    peaks = {n: statistics.median(run["peak_rss_bytes"] for run in made) for n, made in runs.items()}
    figures = []
    for n in runs:
        goal = GOAL if n > measure else None
        time = f"{took_us[n]:.1f} µs a row, {cpu_us[n]:.1f} of the processor, {_seconds(runs[n]):.1f} s in all"
        figures += [
            Figure(case=f"{n:,} rows, time", value=round(took_us[n] / took_us[measure], 3), goal=goal, detail=time),
            Figure(
                case=f"{n:,} rows, memory",
                value=round(peaks[n] / peaks[measure], 3),
                goal=goal,
                detail=f"{peaks[n] / (1 << 20):.0f} MiB",
            ),
        ]
    return figures


def _seconds(runs: Sequence[Run]) -> float:
    return float(statistics.median(run["wall_s"] for run in runs))


def measure(asked: Namespace, folder: Path) -> int:
    """Measure each number of rows, and write the result."""
    counts = asked.rows or (FULL if asked.full else SHORT)
    sources = {n: write_short(folder / f"{n}.parquet", n) for n in (FEW, *counts)}
    made = in_turns({str(n): partial(ours, source, folder) for n, source in sources.items()}, asked.turns)
    runs = {n: made[str(n)] for n in counts}
    wrong = [
        f"{n:,} rows: found {run['embedded_rows']:,}" for n in runs for run in runs[n] if run["embedded_rows"] != n
    ]
    base = MEASURE if MEASURE in counts else min(counts)
    return finish(
        asked.folder,
        "rows",
        WHAT,
        figures_of(runs, made[str(FEW)], base),
        corpora={"short texts": corpus([len(row["text"].split()) for row in texts(10_000)], unit="words")},
        runs=made,
        notes=[f"Shares are of those at {base:,} rows. A run of {FEW} rows took {_seconds(made[str(FEW)]):.2f} s."],
        problems=wrong,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say, in a folder that is removed afterwards."""
    parser = arguments_of(WHAT, turns=3)
    parser.add_argument("--full", action="store_true", help="up to ten million rows: ten minutes, 5 GB of disk")
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows, in place of the usual ones")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        return measure(asked, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
