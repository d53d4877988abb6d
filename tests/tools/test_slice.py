"""Slicing: a narrower dataset out of a wider one, the same as a run of that width would make."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.vectors import to_numpy
from tests.support import HASHING, REPOSITORY, embed_corpus, read_dataset, status, texts, write_jsonl, write_parquet

UNTRAINED = "--allow-untrained-dim"


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a corpus `in` and its dataset `out` of 384 components."""
    folder = tmp_path_factory.mktemp("wide")
    write_jsonl(folder / "in/a.jsonl", [*texts(1000), {"id": "bad", "text": None}])
    write_parquet(folder / "in/b.parquet", texts(1000, start=1000))
    run(folder, "out")
    return folder


def run(folder: Path, output: str, *more: str) -> None:
    chunks = ("--set", "run.chunk_tokens=4000")
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / output, *HASHING, *chunks, *more)
    assert done.returncode == 0, done.stderr


def test_a_slice_is_what_a_run_of_that_width_makes(wide: Path) -> None:
    assert embed_corpus("slice", wide / "out", "--dim", "128", UNTRAINED, wide / "cut").returncode == 0
    run(wide, "narrow", "--dim", "128", UNTRAINED)
    found, expected = read_dataset(wide / "cut"), read_dataset(wide / "narrow")
    assert found.drop_columns("embedding").equals(expected.drop_columns("embedding"))
    one, other = (to_numpy(table.column("embedding")).astype(np.float64) for table in (found, expected))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    assert np.min(np.sum(one * other, axis=1) / lengths) >= 0.9999
    assert pq.read_table(wide / "cut/rejects").equals(pq.read_table(wide / "narrow/rejects"))
    assert embed_corpus("verify", wide / "cut").returncode == 0
    assert status(wide / "cut")["dim"] == 128
    # A run of that width takes it over as it is.
    run(wide, "cut", "--dim", "128", UNTRAINED)
    assert (status(wide / "cut")["embedded_now"], status(wide / "cut")["kept_rows"]) == (0, 2000)


def test_slicing_again_makes_only_what_is_missing_and_follows_the_dataset(wide: Path, tmp_path: Path) -> None:
    shutil.copytree(wide / "out", tmp_path / "out")
    shutil.copytree(wide / "in", tmp_path / "in")
    cut = ("slice", tmp_path / "out", "--dim", "64", tmp_path / "cut")
    assert embed_corpus(*cut).returncode == 0
    before = {path: path.stat().st_ino for path in (tmp_path / "cut/data").iterdir()}
    next(iter(before)).unlink()
    write_parquet(tmp_path / "in/b.parquet", texts(10, start=1000))
    run(tmp_path, "out", "--prune")
    assert embed_corpus(*cut).returncode == 0
    after = {path: path.stat().st_ino for path in (tmp_path / "cut/data").iterdir()}
    assert 2 < len(before.items() & after.items()) < len(before)
    assert len(read_dataset(tmp_path / "cut")) == 1010
    assert embed_corpus("verify", tmp_path / "cut").returncode == 0


@pytest.mark.parametrize(("dim", "code"), [("384", 2), ("0", 2)])
def test_a_width_that_the_vectors_do_not_have_is_refused(wide: Path, dim: str, code: int) -> None:
    refused = embed_corpus("slice", wide / "out", "--dim", dim, wide / "none")
    assert refused.returncode == code
    assert not (wide / "none").exists()


def test_a_destination_with_another_dataset_is_refused(wide: Path) -> None:
    for destination in (wide / "out", wide / "other"):
        run(wide, "other", "--set", "model.max_tokens=77")
        refused = embed_corpus("slice", wide / "out", "--dim", "64", destination)
        assert refused.returncode == 5, refused.stderr
    assert status(wide / "out")["dim"] == 384


def test_a_folder_with_other_files_or_a_slice_of_another_dataset_is_refused(wide: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/other.jsonl", texts(10))
    assert embed_corpus("slice", wide / "out", "--dim", "64", tmp_path / "in").returncode == 2
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["other.jsonl"]
    run(tmp_path, "out")
    assert embed_corpus("slice", tmp_path / "out", "--dim", "64", tmp_path / "cut").returncode == 0
    assert embed_corpus("slice", wide / "out", "--dim", "64", tmp_path / "cut").returncode == 5
    assert len(read_dataset(tmp_path / "cut")) == 10


def test_a_damaged_part_is_named_and_not_copied(wide: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(wide / "out", tmp_path / "out"))
    part = sorted((output / "data").iterdir())[0]
    column = pq.read_metadata(part).row_group(0).column(9)
    data = bytearray(part.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    part.write_bytes(data)
    for command in (("slice", output, "--dim", "64", tmp_path / "cut"), ("search", output, "word1")):
        refused = embed_corpus(*command)
        assert refused.returncode == 6
        assert part.name in refused.stderr


def test_an_untrained_width_is_said_to_cost_quality(wide: Path) -> None:
    said = embed_corpus("slice", wide / "out", "--dim", "100", wide / "said")
    assert said.returncode == 0
    assert "the model was trained for 384: 100 costs quality" in said.stderr


def test_a_run_of_a_smaller_width_suggests_a_slice(wide: Path) -> None:
    arguments = ("run", "--input", wide / "in", "--output", wide / "out", *HASHING, "--dim", "128", UNTRAINED)
    refused = embed_corpus(*arguments)
    assert refused.returncode == 5
    assert f"embed-corpus slice {wide / 'out'} --dim 128 DEST" in refused.stderr


COPY = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
for part in Path(sys.argv[1]).iterdir():
    pq.write_table(pq.read_table(part), Path(sys.argv[2]) / part.name, compression="zstd")
"""
PEAK = """
import resource, sys
from pipeline.cli import main
assert main(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_dataset_and_no_engine_is_imported(wide: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(20_000))
    run(tmp_path, "out")
    for name in ("vllm", "torch", "tokenizers"):
        (tmp_path / "no" / name).mkdir(parents=True)
        (tmp_path / "no" / name / "__init__.py").write_text("raise SystemExit('an engine was imported')")
    peaks: list[int] = []
    for folder in (wide, tmp_path):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                PEAK,
                "slice",
                str(folder / "out"),
                "--dim",
                "128",
                str(tmp_path / f"cut-{len(peaks)}"),
            ],
            env={**os.environ, "PYTHONPATH": f"{tmp_path / 'no'}:{REPOSITORY}"},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] <= 1.1 * peaks[0]


@pytest.mark.slow
def test_slicing_takes_at_most_twice_the_time_of_reading_and_writing_the_files(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(60_000))
    done = embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    assert done.returncode == 0, done.stderr
    took: dict[str, list[float]] = {"slice": [], "copy": []}
    for turn in range(5):
        (tmp_path / f"copy-{turn}").mkdir()
        commands: dict[str, list[str | Path]] = {
            "copy": [sys.executable, "-c", COPY, tmp_path / "out/data", tmp_path / f"copy-{turn}"],
            "slice": [
                sys.executable,
                "-m",
                "pipeline",
                "slice",
                tmp_path / "out",
                "--dim",
                "128",
                tmp_path / f"cut-{turn}",
            ],
        }
        for name, command in commands.items():
            began = time.monotonic()
            subprocess.run(command, check=True, capture_output=True)
            took[name].append(time.monotonic() - began)
    assert statistics.median(took["slice"]) <= 2 * statistics.median(took["copy"])
