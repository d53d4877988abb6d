"""An output is a folder that a run made, and a file is ours if a run made it: everything else stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.ours import discard, foreign_files, sweep
from pipeline.dataset.store import Store
from tests.support import HASHING, embed_corpus, read_dataset, texts, write_jsonl
from tests.support.crash import hashing_run
from tests.support.many import Call, run_all


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return every path below a folder, with the bytes of the files; the lock's file says who came last."""
    paths = (path for path in folder.rglob("*") if path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def table(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": [1, 2]}), path)


def text(name: str, words: str = "mine\n") -> object:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(words)

    return write


PLACES = {
    "a README": text("README.md"),
    "a manifest of audio files": text("manifest.jsonl", '{"audio_filepath": "a.wav", "duration": 1.0}\n'),
    "an empty manifest": text("manifest.jsonl", ""),
    "Parquet in data/": lambda folder: table(folder / "data/train-00000.parquet"),
    "Parquet named like Spark's": lambda folder: table(folder / "data/part-00000-c000.snappy.parquet"),
    "Parquet in rejects/": lambda folder: table(folder / "rejects/part-0.parquet"),
    "a hidden file": text(".gitignore"),
    "a repository": text(".git/config"),
    "a corpus": text("wiki/a.jsonl"),
    "a file named data": text("data"),
    "an empty folder": lambda folder: (folder / "notes").mkdir(parents=True),
    "a temporary file": text("data/.upload.parquet.7.tmp"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "in/a.jsonl", texts(20))


def test_a_folder_that_no_run_made_is_refused_by_every_command_and_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    calls: list[Call] = []
    before = {}
    for name, write in PLACES.items():
        place = tmp_path / name
        assert callable(write)
        write(place)
        before[name] = tree(place)
        run = ("run", "--input", source, "--output", place, *HASHING)
        calls += map(Call, (run, (*run, "--rebuild", "--prune"), ("plan", *run[1:])))
        calls += map(Call, (("verify", place, "--repair"), ("status", place)))
    for call, done in zip(calls, run_all(calls), strict=True):
        assert done.returncode == 2, (call.arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1
        assert "found" in done.stderr
    assert {name: tree(tmp_path / name) for name in PLACES} == before


def test_a_new_folder_an_empty_one_and_what_a_crash_at_the_start_leaves_are_taken(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("data", "rejects", ".attempts", "lost+found"):
        (tmp_path / "started" / name).mkdir(parents=True)
    for name in (".lock", ".manifest.jsonl.7.tmp", "data/.part-a-0000000000-0123456789abcdef.parquet.7.tmp"):
        (tmp_path / "started" / name).touch()
    for name in ("empty", "started", "new/one"):
        hashing_run(source, tmp_path / name)
        assert len(read_dataset(tmp_path / name)) == 20


def test_a_dataset_is_known_by_its_parts_or_its_manifest_alone(source: Path, tmp_path: Path) -> None:
    hashing_run(source, tmp_path / "parts")
    shutil.copytree(tmp_path / "parts", tmp_path / "manifest")
    (tmp_path / "parts/manifest.jsonl").unlink()
    shutil.rmtree(tmp_path / "manifest/data")
    for name, n_embedded in (("parts", 0), ("manifest", 20)):
        (tmp_path / name / "notes.txt").write_text("mine")
        assert hashing_run(source, tmp_path / name)["embedded_now"] == n_embedded
        assert (tmp_path / name / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "found"),
    [("", "nothing"), (" ", "nothing"), ("s3://b/out", "an address"), ("hf://datasets/x/y", "an address")],
)
def test_an_output_that_is_no_folder_is_refused_before_anything_is_read(
    tmp_path: Path, output: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = embed_corpus("run", "--input", "no such input", "--config", "no such config", "--output", output)
    assert done.returncode == 2
    assert f"--output{' ' * bool(output.strip())}{output.strip()}: expected" in done.stderr
    assert f"found {found}" in done.stderr
    assert [*tmp_path.iterdir()] == []


FOREIGN = ("data/train-00000.parquet", "data/part-00001.parquet", "data/notes.txt", "rejects/mine.parquet")


def test_foreign_files_among_the_parts_are_named_and_never_touched(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    hashing_run(source, output)
    for name in FOREIGN:
        table(output / name)
    before = {name: (output / name).read_bytes() for name in FOREIGN}
    run = ("run", "--input", source, "--output", output, *HASHING)
    again, verified, repaired, rebuilt, whole = run_all(
        [
            Call(run),
            Call(("verify", output, "--json")),
            Call(("verify", output, "--repair", "--json")),
            Call((*run, "--rebuild", "--set", "model.max_tokens=77")),
            Call(("verify", output, "--json")),
        ]
    )
    assert [done.returncode for done in (again, verified, repaired, rebuilt, whole)] == [0, 6, 6, 0, 6]
    for done in (again, rebuilt):
        assert "made by no run, and left alone" in done.stderr
        assert sum(name in done.stderr for name in FOREIGN) == 3
        assert "and 1 more" in done.stderr
    for done in (verified, repaired, whole):
        found = json.loads(done.stdout)
        assert {(p["kind"], p["path"]) for p in found["problems"]} == {("foreign", name) for name in FOREIGN}
        assert (found["state"], found["repaired"]) == ("complete", [])
    assert {name: (output / name).read_bytes() for name in FOREIGN} == before


def test_foreign_files_are_those_with_neither_our_name_nor_a_receipt(source: Path, tmp_path: Path) -> None:
    hashing_run(source, tmp_path / "out")
    store = Store(root=tmp_path / "out")
    [part] = store.part_sizes()
    shutil.copy(store.data_path(part), store.data_path("copy.parquet"))
    for name in (".hidden.parquet", "other.parquet", f"x{part}"):
        table(store.data_path(name))
    assert foreign_files(store, {part}) == ["data/other.parquet", f"data/x{part}"]


def test_what_is_dropped_takes_the_place_of_nothing(source: Path, tmp_path: Path) -> None:
    hashing_run(source, tmp_path / "out")
    store = Store(root=tmp_path / "out")
    [part] = store.part_sizes()
    for number in range(3):
        store.data_path(part).write_text(f"{number}")
        discard(store, part)
        discard(store, part)  # is not there any more
    trash = tmp_path / "out/.trash/data"
    assert [(trash / name).read_text() for name in (part, f"{part}.1", f"{part}.2")] == ["0", "1", "2"]
    assert len(list(trash.iterdir())) == 3


def test_a_sweep_takes_what_a_run_left_and_nothing_else(tmp_path: Path) -> None:
    part = "part-a-0000000000-0123456789abcdef.parquet"
    ours = {f".next/{'0' * 16}/rejects/{part}", f"rejects/{part}", f"data/.{part}.8.tmp", ".README.md.12.tmp"}
    theirs = {
        f".next/server/rejects/{part}",
        "rejects/part-0.parquet",
        "rejects/notes.txt",
        "data/.x.parquet.7.tmp",
        ".upload.tmp",
        "data/.~lock.7.tmp",
    }
    for name in (*ours, *theirs):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sweep(Store(root=tmp_path))
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == theirs
