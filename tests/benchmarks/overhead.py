"""Everything but the engine: a whole run with an engine that answers at once, against raw reading and writing."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from msgspec.structs import replace

from pipeline.vectors import to_numpy
from tests.benchmarks.conditions import corpus
from tests.benchmarks.corpora import write_short
from tests.benchmarks.pairs import Run, apart, in_turns, ratios, sets
from tests.benchmarks.raw import read, ready_vectors
from tests.benchmarks.results import Figure, arguments_of, finish, ratio_figure
from tests.support import read_dataset

GOALS = {384: 1.5, 1024: 1.25}  # by width
FILES = {"Parquet": "a.parquet", "JSONL": "a.jsonl"}
MOST_FILES = 12  # of the profile
WHAT = (
    "Everything but the engine. Ours: a whole run, from the call to its return, with an engine that looks a ready "
    "vector up (one token a word). Raw: the same file read with its library (pyarrow; `json.loads` of each line), and "
    "ids, texts and the same vectors, which are in memory in float16 already, written as one Parquet file with the "
    "settings of a part and flushed; nothing is tokenised, hashed, normalised or checked. Each in a fresh process, "
    "imports left out, in turns; value: the median of the turns' ratios of wall time."
)


def instant(*overrides: str) -> list[str]:
    """Return the flags of a run with the engine that answers at once."""
    return ["--config", "hashing", *sets(["engine.kind=instant", *overrides])]


def ours(source: Path, folder: Path, width: int, *flags: str) -> Run:
    """Run the pipeline on a file into a new folder below `folder`."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "out"
    found = apart("tests.benchmarks.ours", source, output, *instant(f"model.dims=[{width}]"), *flags)
    return found | {"output": str(output)}


def raw(source: Path, folder: Path, width: int) -> Run:
    """Read and write a file."""
    output = Path(tempfile.mkdtemp(dir=folder)) / "raw.parquet"
    return apart("tests.benchmarks.raw", source, output, str(width)) | {"output": str(output)}


def differences(source: Path, width: int, run: Run, other: Run) -> list[str]:
    """Return how what a run wrote differs from the file of raw, in words."""
    wanted, found = read(source), read_dataset(Path(run["output"]))
    if found.column("id").to_pylist() != wanted.column("id").to_pylist():
        return [f"{source.name}, {width}: the rows differ"]
    wrong = []
    if not np.array_equal(to_numpy(found.column("embedding")), ready_vectors(source, width)):
        wrong.append(f"{source.name}, {width}: the vectors differ")
    part = next((Path(run["output"]) / "data").glob("*.parquet"))
    if _settings(part) != _settings(Path(other["output"])):
        wrong.append(f"{source.name}, {width}: a part is written with other settings than the file of raw")
    return wrong


def _settings(path: Path) -> dict[str, Any]:
    """Return how the vectors of a file are written."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    [column] = [
        found for at in range(group.num_columns) if (found := group.column(at)).path_in_schema.startswith("embedding")
    ]
    return {
        "compression": column.compression,
        "encodings": sorted(column.encodings),
        "dictionary": column.has_dictionary_page,
    }


def profile(source: Path, folder: Path, width: int) -> tuple[Run, str]:
    """Return a run that was looked at again and again, and in words where it computed."""
    run = ours(source, folder, width, "--profile")
    seconds: dict[str, float] = run["profile"]
    total_s = sum(seconds.values())
    shares = [f"{name} {100 * each / total_s:.0f} %" for name, each in list(seconds.items())[:MOST_FILES]]
    return run, (
        f"Where ours computed, by the innermost file of pipeline/ ({source.suffix[1:]}, {width} dims, {total_s:.1f} s "
        f"of the processor in {run['wall_s']:.1f} s): {', '.join(shares)}."
    )


def measure(asked: Namespace, folder: Path) -> int:
    """Measure each width and kind of file, and write the result."""
    figures: list[Figure] = []
    runs: dict[str, Any] = {}
    problems: list[str] = []
    sources = {kind: write_short(folder / name, asked.rows) for kind, name in FILES.items()}
    for width, goal in GOALS.items():
        for kind, source in sources.items():
            made = in_turns(
                {"ours": partial(ours, source, folder, width), "raw": partial(raw, source, folder, width)}, asked.turns
            )
            case = f"{kind}, {width} dims"
            runs[case] = made
            walls = {name: [run["wall_s"] for run in each] for name, each in made.items()}
            found = ratios(walls["ours"], walls["raw"])
            figure = ratio_figure(case, found, goal=goal, names=("ours", "raw"))
            cpu = ratios(*([run["cpu_s"] for run in made[name]] for name in ("ours", "raw")))
            figures.append(replace(figure, detail=f"{figure.detail}; of the processor {cpu['median_of_ratios']:.2f} x"))
            problems += differences(source, width, made["ours"][-1], made["raw"][-1])
    looked_at = [profile(source, folder, 384) for source in sources.values()]
    lengths = [len(text.split()) for text in read(sources["JSONL"]).column("text").to_pylist()]
    return finish(
        asked.folder,
        "overhead",
        WHAT,
        figures,
        corpora={"short texts": corpus(lengths, unit="words")},
        runs=runs | {"profiles": [run for run, _ in looked_at]},
        notes=[words for _, words in looked_at],
        problems=problems,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say, in a folder that is removed afterwards."""
    parser = arguments_of(WHAT, turns=3)
    parser.add_argument("--rows", type=int, default=200_000)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        return measure(asked, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
