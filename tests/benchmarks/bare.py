"""Our whole run against the engine alone, on texts of three lengths."""

from __future__ import annotations

import statistics
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from pipeline.vectors import to_numpy, to_unit_float16
from tests.benchmarks.conditions import corpus
from tests.benchmarks.corpora import WORDS, real_texts, write_texts
from tests.benchmarks.pairs import Run, apart, in_turns, ratios, sets
from tests.benchmarks.results import Figure, arguments_of, finish, ratio_figure
from tests.support import read_dataset

GOAL = 1.03
CHUNK_TOKENS = 32_768  # several chunks, as in a long run: one is read, tokenised or written while another is embedded
LEAST_COSINE = 0.999  # of a text: bfloat16 in another batch moves a vector by less
WHAT = (
    "Our whole run against the engine alone. Ours: from the engine's being ready to the return of the run, with all "
    "read, tokenised, embedded, written, flushed and reconciled, in chunks of 32,768 tokens; the first two are read "
    "and tokenised while the engine loads. Bare: `LLM.encode` on the same token ids, which are there already, with "
    "the same engine arguments and the same batches, from the loaded and warm engine to the last vector in memory. "
    "Nothing is written. Each in a fresh process, in turns; value: the median of the turns' ratios."
)


def ours(source: Path, folder: Path, flags: Sequence[str]) -> Run:
    """Run the pipeline on a file into a new folder."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "out"
    return apart("tests.benchmarks.ours", source, output, *flags) | {"output": str(output)}


def bare(source: Path, folder: Path, flags: Sequence[str]) -> Run:
    """Embed a file's texts with the engine alone."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "vectors.npy"
    return apart("tests.benchmarks.bare_engine", source, output, *flags) | {"output": str(output)}


def differences(length: str, run: Run, other: Run) -> list[str]:
    """Return how what two runs embedded differs, in words."""
    found, wanted = read_dataset(Path(run["output"])), np.load(other["output"])
    if len(found) != len(wanted) or run["tokens"] != sum(other["lengths"]) or run["embedded_now"] != len(wanted):
        return [f"{length}: ours embedded {run['embedded_now']:,} texts of {run['tokens']:,} tokens, bare others"]
    unit = to_unit_float16(wanted, wanted.shape[1]).astype(np.float32)
    cosines = np.sum(to_numpy(found.column("embedding")).astype(np.float32) * unit, axis=1)
    return [f"{length}: a vector differs, cosine {cosines.min():.5f}"] if cosines.min() < LEAST_COSINE else []


def measure(asked: Namespace, folder: Path) -> int:
    """Measure each length, and write the result."""
    flags = ["--config", asked.config, *sets([f"run.chunk_tokens={CHUNK_TOKENS}", *asked.set])]
    figures: list[Figure] = []
    corpora: dict[str, dict[str, Any]] = {}
    runs: dict[str, Any] = {}
    problems: list[str] = []
    for length in WORDS:
        texts = real_texts(folder / "sample", length, asked.words)
        source = write_texts(folder / f"{length}.parquet", texts)
        made = in_turns(
            {"ours": partial(ours, source, folder, flags), "bare": partial(bare, source, folder, flags)}, asked.turns
        )
        problems += differences(length, made["ours"][-1], made["bare"][-1])
        corpora[length] = corpus(made["bare"][0]["lengths"])
        runs[length] = {name: [_without_lengths(run) for run in each] for name, each in made.items()}
        found = ratios([run["from_ready_s"] for run in made["ours"]], [run["wall_s"] for run in made["bare"]])
        figure = ratio_figure(f"{length} texts", found, goal=GOAL, names=("ours", "bare"))
        busy = statistics.median(run["engine_s"] / run["from_ready_s"] for run in made["ours"])
        speed = corpora[length]["tokens"] / found["ours"]
        more = f"; engine {100 * busy:.1f} % of the time; {speed:,.0f} tokens/s"
        figures.append(replace(figure, detail=figure.detail + more))
    model = f"The model is that of the config {asked.config}, in {runs['short']['bare'][0]['dtype']}."
    return finish(asked.folder, "bare", WHAT, figures, corpora=corpora, runs=runs, notes=[model], problems=problems)


def _without_lengths(run: Run) -> Run:
    return {name: value for name, value in run.items() if name != "lengths"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say, in a folder that is removed afterwards."""
    parser = arguments_of(WHAT, turns=3)
    parser.add_argument("--words", type=int, default=100_000, help="of the texts of each length, in all")
    parser.add_argument("--config", default="local")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        return measure(asked, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
