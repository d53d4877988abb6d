"""What is promised of lines and Parquet is promised of every format: kills, changes, moves and damage."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from tests.promises.test_crash_matrix import ends, paid
from tests.support import HASHING, read_dataset, texts
from tests.support.crash import crashing_run, hashing_run
from tests.support.formats import ENDINGS, write_rows

SETTINGS: dict[str, Any] = {"run__chunk_tokens": 100}
SMALL = ("--set", "run.chunk_tokens=100")
EVERY = (*ENDINGS, ".txt", ".md")
# Each reader and each packing once; the others are what these are put together.
QUICK = (
    ".parquet",
    ".jsonl",
    ".jsonl.gz",
    ".json",
    ".json.zst",
    ".csv",
    ".csv.bz2",
    ".tsv.xz",
    ".arrow",
    ".feather",
    ".md",
)
CHECKED = (".gz", ".bz2", ".xz")  # packings with a checksum of what they hold
SEED = 3
EACH = [ending if ending in QUICK else pytest.param(ending, marks=pytest.mark.slow) for ending in EVERY]
N_ROWS = 40


class Input:
    """A folder with rows as one file, or as one document each. Every write has a date of its own."""

    def __init__(self, root: Path, ending: str) -> None:
        self.root = root
        self.name = f"a{ending}"
        self.are_documents = ending not in ENDINGS
        self._n_writes = 0

    def write(self, rows: Sequence[Mapping[str, str]]) -> None:
        self._n_writes += 1
        if not self.are_documents:
            self._touch(write_rows(self.root / self.name, rows))
            return
        self.root.mkdir(exist_ok=True)
        wanted = {f"{row['id']}-{self.name}": row["text"] for row in rows}
        for path in self.root.iterdir():
            if path.name not in wanted:
                path.unlink()
        for name, text in wanted.items():
            path = self.root / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                self._touch(path)

    def rename(self) -> None:
        """Give the file, or one document, another name in a folder of its own."""
        old = sorted(self.root.iterdir())[0]
        (self.root / "moved").mkdir()
        old.rename(self.root / "moved" / f"b-{old.name}")

    def _touch(self, path: Path) -> None:
        os.utime(path, ns=(self._n_writes * 10**9,) * 2)


def rows_in(output: Path) -> list[dict[str, Any]]:
    """Return the rows of a dataset without the names of its files, in no order of files."""
    table = read_dataset(output).drop_columns(["source", "row", "id"])
    return sorted(table.to_pylist(), key=lambda row: str(row["text"]))


@pytest.mark.parametrize(
    ("ending", "n_points"),
    [*((ending, 2) for ending in QUICK), *(pytest.param(ending, 100, marks=pytest.mark.slow) for ending in EVERY)],
)
def test_a_killed_run_goes_on_and_embeds_no_text_twice(tmp_path: Path, ending: str, n_points: int) -> None:
    source = Input(tmp_path / "in", ending)
    source.write(texts(N_ROWS))
    steps = crashing_run(source.root, tmp_path / "whole", None, **SETTINGS).steps
    expected = read_dataset(tmp_path / "whole")
    points = [step for step in ends(steps) if step > len(steps) // 4]
    for point in sorted(random.Random(ending).sample(points, min(n_points, len(points)))):
        output = tmp_path / f"out-{point}"
        assert crashing_run(source.root, output, point, **SETTINGS).killed
        spent = paid(output, tmp_path / "nothing")
        assert hashing_run(source.root, output, **SETTINGS)["embedded_now"] + spent == N_ROWS
        assert read_dataset(output).equals(expected), steps[point]


@pytest.mark.parametrize("ending", EACH)
def test_a_change_costs_what_is_new_and_verify_tells_it(
    tmp_path: Path, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source, output, rows = Input(tmp_path / "in", ending), tmp_path / "out", texts(N_ROWS)
    new = {"id": "new", "text": 'another, "quoted"\nand broken text'}
    first, changed = rows[0], [new if at == 20 else row for at, row in enumerate(rows)]
    for after, cost in (
        (rows, N_ROWS),
        (changed, 1),
        ([{"id": "first", "text": "a row in front of all"}, *changed], 1),
        (changed, 0),
        (changed[1:], 0),
        ([*changed[1:], first], 1),
    ):
        source.write(after)
        assert (main(["verify", str(output), "--input", str(source.root)]) == 0) == (after is rows and cost == 0)
        assert hashing_run(source.root, output, **SETTINGS)["embedded_now"] == cost
        assert main(["verify", str(output), "--input", str(source.root)]) == 0
    source.rename()
    assert hashing_run(source.root, output, **SETTINGS)["embedded_now"] == 0
    hashing_run(source.root, tmp_path / "new", **SETTINGS)
    assert rows_in(output) == rows_in(tmp_path / "new")
    assert sorted(read_dataset(output).column("id").to_pylist()) == sorted(
        read_dataset(tmp_path / "new").column("id").to_pylist()
    )
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("ending", "n_flips"),
    [*((ending, 3) for ending in QUICK), *(pytest.param(ending, 100, marks=pytest.mark.slow) for ending in EVERY)],
)
def test_a_flipped_bit_is_refused_or_read_and_never_loses_a_row_in_silence(
    tmp_path: Path, ending: str, n_flips: int, capfd: pytest.CaptureFixture[str]
) -> None:
    source = Input(tmp_path / "in", ending)
    source.write(texts(N_ROWS))
    hashing_run(source.root, tmp_path / "whole", **SETTINGS)
    path = sorted(source.root.iterdir())[0]
    sound, chance = path.read_bytes(), random.Random(f"{SEED} {ending}")
    for number in range(n_flips):
        bit = chance.randrange(8 * len(sound))
        path.write_bytes(sound[: bit // 8] + bytes([sound[bit // 8] ^ (1 << bit % 8)]) + sound[bit // 8 + 1 :])
        output = tmp_path / f"out-{number}"
        capfd.readouterr()
        planned = main(["plan", "--input", str(source.root), *HASHING, *SMALL, "--json"])
        plan = capfd.readouterr()
        code = main(["run", "--input", str(source.root), "--output", str(output), *HASHING, *SMALL, "--json"])
        said = capfd.readouterr()
        errors = [line for line in said.err.splitlines() if "columns left out" not in line]
        assert "Traceback" not in plan.err + said.err, bit
        assert "unexpected" not in plan.err + said.err, bit
        if code == 0:
            found = json.loads(said.out)
            assert found["input_rows"] == found["embedded_rows"] + found["rejected_rows"], bit
            assert (planned, json.loads(plan.out)["input_rows"]) == (0, found["input_rows"]), bit
            assert main(["verify", str(output), "--input", str(source.root)]) == 0, bit
            assert not ending.endswith(CHECKED) or rows_in(output) == rows_in(tmp_path / "whole"), bit
        else:
            assert (code in (2, 3), len(errors), path.name in errors[-1]) == (True, 1, True), (bit, said.err)
