"""The listing of an input: each file once and by one name, tables refused, files of other kinds counted."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.listing import describe_left_out
from pipeline.corpus.shards import find_files, find_shards
from pipeline.errors import CorpusError
from tests.support import HASHING, texts, write_jsonl, write_parquet
from tests.support.many import Call, run_all


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b'{"text": "a"}\n')


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def sources(target: Path | str) -> list[str]:
    return [shard.source for shard in find_shards(str(target))[1]]


class Shuffled:
    """os.scandir in an order of its own."""

    def __init__(self, folder: Any, seed: int) -> None:
        with REAL_SCANDIR(folder) as entries:
            self._entries = sorted(entries, key=lambda entry: entry.name)
        random.Random(seed).shuffle(self._entries)

    def __enter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self._entries)

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return iter(self._entries)


REAL_SCANDIR = os.scandir


@pytest.fixture(params=range(5))
def any_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "scandir", lambda folder=".": Shuffled(folder, request.param))


# One name for each file.


@pytest.mark.usefixtures("any_order")
def test_a_linked_folder_has_its_own_name_whatever_the_order_of_a_listing(tmp_path: Path) -> None:
    for at in range(4):
        touch(tmp_path, f"in/{at}-m/x.jsonl")
        link(tmp_path / f"in/{at}-a", f"{at}-m")
        link(tmp_path / f"in/{at}-z", f"{at}-m")
    assert sources(tmp_path / "in") == [f"{at}-m/x.jsonl" for at in range(4)]
    assert sources(tmp_path / "in/*/x.jsonl") == [f"{at}-m/x.jsonl" for at in range(4)]
    assert sources(tmp_path / "in/**/*.jsonl") == [f"{at}-m/x.jsonl" for at in range(4)]


@pytest.mark.usefixtures("any_order")
def test_what_only_links_lead_to_has_the_first_name(tmp_path: Path) -> None:
    touch(tmp_path, "far/x.jsonl", "far/sub/y.jsonl")
    for name in ("b", "c", "deep/a"):
        link(tmp_path / "in" / name, tmp_path / "far")
    link(tmp_path / "in/sub", tmp_path / "far/sub")
    assert sources(tmp_path / "in") == ["b/sub/y.jsonl", "b/x.jsonl"]
    assert sources(tmp_path / "in/*/*.jsonl") == ["b/x.jsonl", "sub/y.jsonl"]


@pytest.mark.usefixtures("any_order")
def test_circles_and_links_to_a_parent_end(tmp_path: Path) -> None:
    touch(tmp_path, "in/a/x.jsonl", "in/b/y.jsonl")
    link(tmp_path / "in/a/to-b", tmp_path / "in/b")
    link(tmp_path / "in/b/to-a", tmp_path / "in/a")
    link(tmp_path / "in/up", tmp_path / "in")
    assert sources(tmp_path / "in") == sources(tmp_path / "in/**") == ["a/x.jsonl", "b/y.jsonl"]
    touch(tmp_path, "beside.jsonl")
    link(tmp_path / "in/a/above", tmp_path)
    assert sources(tmp_path / "in") == ["a/above/beside.jsonl", "a/x.jsonl", "b/y.jsonl"]


@pytest.mark.usefixtures("any_order")
def test_a_linked_file_is_read_once_beside_its_target_and_else_by_each_name(tmp_path: Path) -> None:
    touch(tmp_path, "in/m.jsonl", "far/n.jsonl", "in/_hidden.jsonl", "in/blob")
    link(tmp_path / "in/a.jsonl", "m.jsonl")
    link(tmp_path / "in/z/b.jsonl", "../m.jsonl")
    link(tmp_path / "in/c.jsonl", tmp_path / "far/n.jsonl")
    link(tmp_path / "in/d.jsonl", tmp_path / "far/n.jsonl")
    link(tmp_path / "in/e.jsonl", "_hidden.jsonl")  # its own name is not read
    link(tmp_path / "in/f.jsonl", "blob")  # nor is this one: so is the cache of the Hugging Face hub
    found = find_files(str(tmp_path / "in"))
    assert [shard.source for shard in found.shards] == ["c.jsonl", "d.jsonl", "e.jsonl", "f.jsonl", "m.jsonl"]
    assert found.left_out == ""
    os.link(tmp_path / "in/m.jsonl", tmp_path / "in/hard.jsonl")  # a file of its own
    assert "hard.jsonl" in sources(tmp_path / "in")


# What is named outright.


@pytest.mark.parametrize(
    ("input", "found"),
    [
        ("_a.jsonl", ["_a.jsonl"]),
        (".b.jsonl", [".b.jsonl"]),
        ("_old/.c.jsonl", [".c.jsonl"]),
        ("_old", ["d.jsonl"]),
        ("*.jsonl", ["e.jsonl"]),
        ("[_e]*.jsonl", ["e.jsonl"]),
        ("*/_new/*.jsonl", ["x/_new/f.jsonl"]),
        ("*/_new/_g.jsonl", ["x/_new/_g.jsonl"]),
        ("**/_g.jsonl", []),
        ("**/_new/_g.jsonl", ["x/_new/_g.jsonl"]),
        ("**/_new/*.jsonl", ["x/_new/f.jsonl"]),
        ("x/**", []),
        ("", ["e.jsonl"]),
    ],
)
def test_a_hidden_file_is_read_when_it_is_named_outright(tmp_path: Path, input: str, found: list[str]) -> None:
    touch(
        tmp_path,
        "_a.jsonl",
        ".b.jsonl",
        "_old/.c.jsonl",
        "_old/d.jsonl",
        "e.jsonl",
        "x/_new/f.jsonl",
        "x/_new/_g.jsonl",
    )
    if found:
        assert sources(tmp_path / input) == found
    else:
        with pytest.raises(CorpusError, match="found none"):
            sources(tmp_path / input)


# Tables with a log.

TABLES = {
    "a Delta table": {
        "_delta_log/00000000000000000000.json": b"{}",
        "part-0.parquet": b"",
        "day=1/part-1.parquet": b"",
    },
    "an Iceberg table": {"metadata/v3.metadata.json": b"{}", "data/00000-0.parquet": b""},
    "a Hudi table": {".hoodie/hoodie.properties": b"", "2024/a_0.parquet": b""},
}


def write_table(folder: Path, kind: str) -> Path:
    for name in TABLES[kind]:
        touch(folder, name)
    return folder


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_with_a_log_is_refused_from_inside_below_and_above(tmp_path: Path, kind: str) -> None:
    table = write_table(tmp_path / "in/deep/table", kind)
    touch(tmp_path, "in/good.jsonl")
    link(tmp_path / "linked/here", table)
    part = next(table / name for name in TABLES[kind] if name.endswith(".parquet"))
    below = next(path for path in table.iterdir() if path.is_dir() and path.name[0] not in "._m")
    for input in (tmp_path / "in", table, below, below / "*.parquet", table / "**/*.parquet", tmp_path / "linked"):
        with pytest.raises(CorpusError, match=rf"table: expected files of rows, found {kind} .*export .*`.*table.*`"):
            find_shards(str(input))
    assert sources(part) == [part.name]  # the user says which file


def test_an_iceberg_table_of_a_catalogue_is_one_and_other_metadata_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "a/metadata/notes.yaml", "a/metadata/train.metadata.json", "a/x.jsonl", "a/data/y.jsonl")
    assert sources(tmp_path) == ["a/data/y.jsonl", "a/x.jsonl"]
    touch(tmp_path, "b/metadata/00001-0b4f2c1e-6a5e-4a43-9f37-0d9f5c3f7c11.gz.metadata.json")
    with pytest.raises(CorpusError, match="an Iceberg table"):
        find_shards(str(tmp_path))


def test_a_command_ends_with_the_name_of_a_table_and_makes_nothing(tmp_path: Path) -> None:
    write_parquet(write_table(tmp_path / "in", "a Delta table") / "part-0.parquet", texts(2))
    where = ("--input", tmp_path / "in", *HASHING)
    run, plan = run_all([Call(["run", "--output", tmp_path / "out", *where]), Call(["plan", *where])])
    assert (run.returncode, run.stderr.count("\n"), "found a Delta table" in run.stderr) == (2, 1, True)
    assert (plan.returncode, plan.stderr) == (2, run.stderr)
    assert not (tmp_path / "out").exists()


# What is left out.


def test_files_of_other_kinds_are_counted_by_their_endings(tmp_path: Path) -> None:
    touch(tmp_path, "a.jsonl", "b.xls", "c.XLS", "d/e.html.gz", "f.pdf", "g.tar.gz", "h.2024.gz", "i", "k.jsonl.lz4")
    touch(
        tmp_path, "_SUCCESS", ".DS_Store", "._x.xls", "x.crc", "Thumbs.db", "_tmp/y.xls", ".git/config", "l.jsonl.bak"
    )
    assert find_files(str(tmp_path)).left_out == (
        "9 files of other kinds: 2 .xls, 1 .bak, 1 .gz, 1 .html.gz, 1 .jsonl.lz4, 1 .pdf, 1 .tar.gz, "
        "1 without an ending"
    )
    assert find_files(f"{tmp_path}/*.*").left_out.startswith("7 files of other kinds: 2 .xls")
    assert find_files(f"{tmp_path}/*.jsonl").left_out == ""


def test_many_endings_are_not_all_named() -> None:
    said = describe_left_out(Counter({f".x{at:02}": 1 for at in range(30)} | {".csv": 2000}))
    assert said.startswith("2,030 files of other kinds: 2,000 .csv, 1 .x00, ")
    assert said.endswith(".x08, 21 of other endings")


def test_an_input_of_other_kinds_alone_is_refused_with_their_endings(tmp_path: Path) -> None:
    touch(tmp_path, "a.xls", "b.html.gz", "_c.jsonl")
    for target, found in (("", "1 .html.gz, 1 .xls"), ("a.xls", "1 .xls"), ("*.gz", "1 .html.gz")):
        with pytest.raises(CorpusError, match=rf"found none, but .*: {found}$"):
            find_shards(f"{tmp_path}/{target}")


def test_the_line_about_them_comes_once_a_command(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(2))
    touch(tmp_path, "in/b.xls", "in/c.xls", "in/_SUCCESS")
    where, out = ("--input", tmp_path / "in"), tmp_path / "out"
    line = "embed-corpus: left out 2 files of other kinds: 2 .xls\n"
    done = run_all(
        [
            Call(["plan", *where, *HASHING, "--json"]),
            Call(["run", *where, "--output", out, *HASHING]),
            Call(["run", *where, "--output", out, *HASHING]),
            Call(["verify", out, *where]),
        ]
    )
    assert [each.returncode for each in done] == [0] * 4
    assert [each.stderr.count(line) for each in done] == [1, 1, 1, 0]
    assert json.loads(done[0].stdout)["input_rows"] == 2
