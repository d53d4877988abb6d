"""Several inputs are one: each file once, by its path below the folder that all have in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline
from pipeline.corpus.shards import find_files
from pipeline.errors import CorpusError, UsageError
from tests.support import HASHING, embed_corpus, read_dataset, status, texts, write_jsonl

FOLDERS = ("a", "a/b", "c", "d/e/f")


def written(root: Path) -> Path:
    for at, folder in enumerate(FOLDERS):
        write_jsonl(root / folder / "rows.jsonl", texts(5, start=100 * at))
    (root / "d/notes.md").write_text("# Notes")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("inputs"))


NAMED = st.sampled_from(["a", "a/b", "c", "d", "d/e/f/rows.jsonl", "a/*.jsonl", "c/../a", "d/notes.md", "**/f/*.jsonl"])


@given(named=st.lists(NAMED, min_size=2, max_size=4))
def test_several_inputs_have_the_files_of_each_and_no_other(root: Path, named: list[str]) -> None:
    inputs = [f"{root}/{each}" for each in named]
    found = find_files(inputs)
    files = [(found.root / shard.source).resolve() for shard in found.shards]
    of_each = [find_files(each) for each in inputs]
    assert sorted(files) == sorted({(one.root / each.source).resolve() for one in of_each for each in one.shards})
    assert [shard.source for shard in found.shards] == sorted(shard.source for shard in found.shards)
    assert not any(part in ("..", ".") for shard in found.shards for part in Path(shard.source).parts)


def test_files_of_one_name_do_not_collide(root: Path) -> None:
    found = find_files([str(root / "a/rows.jsonl"), str(root / "c/rows.jsonl")])
    assert (found.root, [shard.source for shard in found.shards]) == (root, ["a/rows.jsonl", "c/rows.jsonl"])


def test_one_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(CorpusError, match=r"input .*/nowhere: expected a file"):
        find_files([str(root / "a"), str(root / "nowhere")])


def ran(output: Path, *inputs: Path) -> tuple[int, set[str]]:
    """Return how many texts a run embedded, and the files that the dataset has."""
    done = embed_corpus("run", "--input", *inputs, "--output", output, *HASHING, "--prune")
    assert done.returncode == 0, done.stderr
    return status(output)["embedded_now"], set(read_dataset(output)["source"].to_pylist())


def test_inputs_are_added_and_leave_for_the_price_of_what_changes(tmp_path: Path) -> None:
    root, output = written(tmp_path / "in"), tmp_path / "out"
    assert ran(output, root / "c") == (5, {"rows.jsonl"})
    assert ran(output, root / "c", root / "a") == (10, {"c/rows.jsonl", "a/rows.jsonl", "a/b/rows.jsonl"})
    assert ran(output, root / "a", root / "c", root / "a/b") == (0, {"c/rows.jsonl", "a/rows.jsonl", "a/b/rows.jsonl"})
    done = embed_corpus("verify", output, "--input", root / "a", "--input", root / "c")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(output, root / "a") == (0, {"a/rows.jsonl", "a/b/rows.jsonl"})


def test_python_takes_several_too(tmp_path: Path) -> None:
    root = written(tmp_path / "in")
    found = pipeline.run([root / "a", root / "c"], tmp_path / "out", config="hashing")
    assert (found["input_rows"], found["embedded_now"]) == (15, 15)
    planned = json.loads(embed_corpus("plan", "--input", root / "a", root / "c", *HASHING, "--json").stdout)
    assert planned["input_rows"] == 15


def test_an_output_is_apart_from_every_input(tmp_path: Path) -> None:
    root = written(tmp_path / "in")
    done = embed_corpus("run", "--input", root / "a", root / "c", "--output", root / "c/out", *HASHING)
    assert done.returncode == UsageError.exit_code
    assert "one inside the input" in done.stderr


def test_an_address_of_the_hub_is_an_input_alone(tmp_path: Path) -> None:
    done = embed_corpus("run", "--input", "hf://datasets/a/b", tmp_path, "--output", tmp_path / "out", *HASHING)
    assert done.returncode == UsageError.exit_code
    assert "expected an address of the hub alone" in done.stderr
