"""A shard keeps its name, whichever folder or file a later run names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.corpus.names import folders_below, rebased, root_key
from pipeline.corpus.shards import find_shards
from pipeline.driver.inventory import RunOptions
from pipeline.errors import UsageError
from tests.support import embed_corpus, ids, read_dataset, texts, write_jsonl
from tests.support.crash import hashing_run

KEEP = RunOptions(keep_missing=True)


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Return a folder with a file of the same name for each of three days, all of one size."""
    for day in range(3):
        write_jsonl(tmp_path / f"days/{day}/part-0.jsonl", texts(10, start=100 + 10 * day))
    return tmp_path / "days"


def sources(output: Path) -> set[str]:
    return set(read_dataset(output).column("source").to_pylist())


def test_a_key_says_nothing_of_the_path_and_differs_for_every_folder(tmp_path: Path) -> None:
    keys = {root_key(path) for path in (tmp_path, tmp_path / "a", tmp_path.parent)}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {16}
    assert root_key(tmp_path / "a/../b") == root_key(tmp_path / "b")


def test_shards_are_named_below_the_nearest_folder_that_is_known(days: Path) -> None:
    found = find_shards(str(days / "1"))
    for known, root, source in (
        (set(), days / "1", "part-0.jsonl"),
        ({root_key(days)}, days, "1/part-0.jsonl"),
        ({root_key(days.parent)}, days.parent, "days/1/part-0.jsonl"),
        ({root_key(days), root_key(days / "1")}, days / "1", "part-0.jsonl"),
        ({root_key(days / "2")}, days / "1", "part-0.jsonl"),
    ):
        assert rebased(*found, known)[0] == root
        assert [shard.source for shard in rebased(*found, known)[1]] == [source]
    assert folders_below(*find_shards(str(days)), {root_key(days / "2"), "0" * 16}) == {root_key(days / "2"): "2"}


def test_a_file_of_the_same_name_in_another_folder_is_refused_and_nothing_is_lost(days: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    hashing_run(days / "0/part-0.jsonl", output)
    for named in ("1/part-0.jsonl", "1", "1/*.jsonl"):
        with pytest.raises(UsageError, match=r"--keep-missing: .* found part-0\.jsonl"):
            hashing_run(days / named, output, KEEP)
    assert len(ids(output)) == 10
    hashing_run(days, output, KEEP)
    assert sources(output) == {f"{day}/part-0.jsonl" for day in range(3)}
    assert len(ids(output)) == 30


def test_a_file_of_the_same_name_size_and_date_is_not_taken_for_the_other(days: Path, tmp_path: Path) -> None:
    for day in range(3):
        os.utime(days / f"{day}/part-0.jsonl", ns=(0, 0))
    hashing_run(days / "0", tmp_path / "out")
    with pytest.raises(UsageError, match="part-0"):
        hashing_run(days / "1", tmp_path / "out", KEEP)


def test_a_part_of_what_was_named_first_keeps_its_names(days: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    hashing_run(days, output)
    before = read_dataset(output)
    write_jsonl(days / "1/part-0.jsonl", [*texts(10, start=110), *texts(2, start=900)])
    for named in ("1/part-0.jsonl", "1", "1/*.jsonl"):
        told = hashing_run(days / named, output, KEEP)
        assert (told["embedded_now"], len(ids(output))) == (2 if named == "1/part-0.jsonl" else 0, 32)
    assert sources(output) == set(before.column("source").to_pylist())
    assert embed_corpus("verify", output, "--input", days / "1").returncode == 0
    assert embed_corpus("verify", output, "--input", days).returncode == 0


def test_a_folder_above_what_was_named_first_has_each_row_once(days: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    hashing_run(days / "0", output)
    told = hashing_run(days, output, KEEP)
    assert (told["embedded_now"], told["reused_rows"], len(ids(output))) == (20, 10, 30)


def test_a_corpus_that_moved_is_the_same_corpus(days: Path, tmp_path: Path) -> None:
    hashing_run(days, tmp_path / "out")
    days.rename(tmp_path / "moved")
    told = hashing_run(tmp_path / "moved", tmp_path / "out", RunOptions())
    assert (told["embedded_now"], told["kept_rows"], told["removed_rows"]) == (0, 30, 0)
    told = hashing_run(tmp_path / "moved", tmp_path / "out", KEEP)
    assert (told["embedded_now"], told["kept_rows"]) == (0, 30)
