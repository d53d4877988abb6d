"""`rejects`: every row that could not be embedded, one line each, in the order of the input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.store import Store
from pipeline.errors import DamageError
from pipeline.schema import REJECTS
from pipeline.tools.rejects import format_reject, list_rejects
from tests.support import HASHING, embed_corpus, texts, write_jsonl
from tests.support.many import Call, run_all

LONG = "word " * 400
ESCAPE = "\x1b[2J"
BY_REASON = {"too_long": 2, "empty_text": 1, "malformed_json": 1, "not_a_string": 1, "null_text": 1}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of several parts with rejected rows of several kinds among others."""
    folder = tmp_path_factory.mktemp("rejects")
    good = texts(40)
    write_jsonl(folder / "in/b.jsonl", [*good[:20], {"id": "null", "text": None}, *good[20:], {"text": LONG}])
    odd: list[dict[str, Any]] = [
        {"id": "two\nlines", "text": f"{ESCAPE}{LONG}"},
        {"id": "blank", "text": "\u200b"},
        {"id": "x", "text": 5},
    ]
    write_jsonl(folder / "in/a new\nline.jsonl", [*odd, texts(1, start=99)[0]])
    (folder / "in/c.jsonl").write_text('{"not json\n')
    sets = (*HASHING, "--set", "run.chunk_tokens=100", "--set", "corpus.on_long=reject")
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / "out", *sets)
    assert done.returncode == 0, done.stderr
    assert "\nrejects: 2 too_long, 1 empty_text, 1 malformed_json, 1 not_a_string, 1 null_text\n" in done.stdout
    return folder / "out"


def listed(output: Path) -> list[dict[str, Any]]:
    store = Store(root=output)
    return list(list_rejects(store, store.read_manifest()))


def test_every_rejected_row_is_listed_once_in_the_order_of_the_input_and_counted_by_reason(output: Path) -> None:
    commands = [("rejects", output), *((name, output, "--json") for name in ("rejects", "status", "verify"))]
    words, as_json, *sums = run_all([Call(command) for command in commands])
    assert (words.returncode, as_json.returncode) == (0, 0)
    for done in sums:
        assert json.loads(done.stdout)["rejected_by_reason"] == BY_REASON
    found = json.loads(as_json.stdout)
    assert [(row["source"], row["row"]) for row in found] == [
        ("a new\nline.jsonl", 0), ("a new\nline.jsonl", 1), ("a new\nline.jsonl", 2),
        ("b.jsonl", 20), ("b.jsonl", 41), ("c.jsonl", 0),
    ]  # fmt: skip
    assert found == sorted(pq.read_table(output / "rejects").to_pylist(), key=lambda row: (row["source"], row["row"]))
    lines = words.stdout.splitlines()
    assert lines == [format_reject(row) for row in found]
    assert lines[0].startswith(r"a new\nline.jsonl:0  two\nlines  too_long  over 256 tokens  '\x1b[2Jword word")
    assert lines[1] == (
        r"a new\nline.jsonl:1  blank  empty_text  the tokenizer leaves no token but special ones  '\u200b'"
    )
    assert lines[3] == "b.jsonl:20  null  null_text  text is null"
    assert max(map(len, lines)) < 200


def test_a_dataset_without_rejected_rows_says_so(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", texts(3))
    run, words, as_json, none = run_all(
        [
            Call(("run", "--input", source, "--output", tmp_path / "out", *HASHING)),
            Call(("rejects", tmp_path / "out")),
            Call(("rejects", tmp_path / "out", "--json")),
            Call(("rejects", tmp_path)),
        ]
    )
    assert "3 embedded, 0 rejected\n" in run.stdout
    assert (words.returncode, words.stdout) == (0, "no row was rejected\n")
    assert (as_json.returncode, json.loads(as_json.stdout)) == (0, [])
    assert (none.returncode, len(none.stderr.splitlines())) == (2, 1)


def test_only_what_the_manifest_names_is_listed_and_without_one_what_is_sound(output: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(output, tmp_path / "out")
    pq.write_table(REJECTS.empty_table(), copy / "rejects/part-stranger.parquet")
    (copy / "rejects/notes.txt").write_text("mine")
    assert listed(copy) == listed(output)
    (copy / "manifest.jsonl").unlink()
    assert listed(copy) == listed(output)
    of_c = next(path for path in (copy / "rejects").glob("*.parquet") if "not json" in str(pq.read_table(path)))
    (copy / "data" / of_c.name).write_bytes(b"PAR1")  # a part that is not whole counts for nothing
    assert listed(copy) == [row for row in listed(output) if row["source"] != "c.jsonl"]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b"PAR1"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "no Parquet": lambda path: path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2")),
    "other columns": lambda path: pq.write_table(pa.table({"id": ["x"]}), path),
}


def test_a_damaged_file_is_named_after_what_comes_before_it(output: Path, tmp_path: Path) -> None:
    for name, damage in DAMAGES.items():
        store = Store(root=shutil.copytree(output, tmp_path / name))
        last = max((r for r in store.read_manifest().receipts.values() if r.has_rejects), key=lambda r: r.sources[0])
        damage(store.rejects_path(last.part))
        rows = list_rejects(store, store.read_manifest())
        assert [next(rows) for _ in range(5)] == listed(output)[:5]  # one file is open at a time
        with pytest.raises(DamageError, match=last.part):
            next(rows)
    for done in run_all([Call(("rejects", tmp_path / name)) for name in DAMAGES]):
        assert (done.returncode, len(done.stdout.splitlines()), len(done.stderr.splitlines())) == (6, 5, 1)
