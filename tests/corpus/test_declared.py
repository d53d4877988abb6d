"""`corpus.types`: kept columns have the types that were asked for, and a value that is none of them is a reject."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.tabular.declared import as_declared
from pipeline.dataset.store import Store
from pipeline.errors import UsageError
from tests.support import HASHING, embed_corpus, read_dataset, status
from tests.support.formats import encoded

TYPES = {"year": "int64", "score": "float64", "day": "date32"}
ROWS = [
    {"id": f"r{at}", "text": f"text {at}", "year": f" {2000 + at}", "score": f"{at}.5", "day": f"2026-01-{at + 1:02}"}
    for at in range(6)
]


def asked(types: Mapping[str, str] = TYPES) -> list[str]:
    inline = ", ".join(f"{name} = {json.dumps(kind)}" for name, kind in types.items())
    return [*HASHING, "--set", f"corpus.keep={json.dumps(list(TYPES))}", "--set", f"corpus.types={{{inline}}}"]


def written(folder: Path, rows: Sequence[Mapping[str, Any]], ending: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"rows{ending}").write_bytes(encoded(rows, ending))
    return folder


def rejected(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(embed_corpus("rejects", output, "--json").stdout)
    return found


@pytest.mark.parametrize("ending", [".csv", ".tsv.gz", ".jsonl", ".json", ".parquet", ".arrow"])
def test_texts_of_every_format_become_what_was_asked(tmp_path: Path, ending: str) -> None:
    wrong = [{**ROWS[2], "id": "w", "year": "MMXX", "score": "1"}, {**ROWS[3], "id": "e", "year": "", "day": ""}]
    folder, out = written(tmp_path / "in", [*ROWS, *wrong], ending), tmp_path / "out"
    done = embed_corpus("run", "--input", folder, "--output", out, *asked())
    assert done.returncode == 0, done.stderr
    table = read_dataset(out)
    assert [str(table.schema.field(name).type) for name in TYPES] == ["int64", "double", "date32[day]"]
    by_id = {row["id"]: row for row in table.to_pylist()}
    assert by_id.keys() == {"r0", "r1", "r2", "r3", "r4", "r5", "e"}
    assert (by_id["r1"]["year"], by_id["r1"]["score"], by_id["r1"]["day"]) == (2001, 1.5, datetime.date(2026, 1, 2))
    assert (by_id["e"]["year"], by_id["e"]["day"]) == (None, None)
    [reject] = rejected(out)
    assert (reject["id"], reject["reason"], reject["text"]) == ("w", "malformed_row", "text 2")
    assert reject["detail"] == "year: expected int64, found 'MMXX'"
    verified = embed_corpus("verify", out, "--input", folder)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_other_types_are_refreshed_without_the_engine_and_equal_ones_cost_nothing(tmp_path: Path) -> None:
    folder, out = written(tmp_path / "in", ROWS, ".csv"), tmp_path / "out"
    assert embed_corpus("run", "--input", folder, "--output", out, *asked({})).returncode == 0
    assert read_dataset(out).schema.field("year").type == pa.string()
    assert embed_corpus("run", "--input", folder, "--output", out, *asked()).returncode == 0
    assert read_dataset(out).schema.field("year").type == pa.int64()
    assert status(out)["embedded_now"] == 0
    parts = set(Store(root=out).part_sizes())
    assert embed_corpus("run", "--input", folder, "--output", out, *asked()).returncode == 0
    assert set(Store(root=out).part_sizes()) == parts


def test_folders_and_documents_and_numbers_that_widen(tmp_path: Path) -> None:
    for year in (2001, 2002):
        folder = tmp_path / f"in/year={year}"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_bytes(b'{"id": "%d", "text": "words", "score": 1}' % year)
    kept = ["--set", 'corpus.keep=["year", "score"]', "--set", 'corpus.types={year = "int32", score = "float64"}']
    done = embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING, *kept)
    assert done.returncode == 0, done.stderr
    table = read_dataset(tmp_path / "out")
    assert sorted(table["year"].to_pylist()) == [2001, 2002]
    assert (table.schema.field("year").type, table["score"].to_pylist()) == (pa.int32(), [1.0, 1.0])
    (tmp_path / "notes/year=x").mkdir(parents=True)
    (tmp_path / "notes/year=x/a.md").write_text("words")
    (tmp_path / "notes/year=3").mkdir()
    (tmp_path / "notes/year=3/b.md").write_text("more words")
    one = ["--set", 'corpus.keep=["year"]', "--set", 'corpus.types={year = "int32"}']
    assert (
        embed_corpus("run", "--input", tmp_path / "notes", "--output", tmp_path / "md", *HASHING, *one).returncode == 0
    )
    assert read_dataset(tmp_path / "md")["year"].to_pylist() == [3]
    assert [each["reason"] for each in rejected(tmp_path / "md")] == ["malformed_row"]


def test_times_with_a_zone_become_those_of_utc(tmp_path: Path) -> None:
    times = ["2026-01-31T12:00:00Z", "2026-01-31 14:00:00.5+02:00", "2026-01-31T12:00:00", ""]
    rows = [{"id": f"r{at}", "text": f"text {at}", "time": time} for at, time in enumerate(times)]
    kept = ["--set", 'corpus.keep=["time"]', "--set", 'corpus.types={time = "timestamp[ms, tz=UTC]"}']
    folder, out = written(tmp_path / "in", rows, ".csv"), tmp_path / "out"
    assert embed_corpus("run", "--input", folder, "--output", out, *HASHING, *kept).returncode == 0
    noon = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
    found = {row["id"]: row["time"] for row in read_dataset(out).to_pylist()}
    assert found == {"r0": noon, "r1": noon.replace(microsecond=500_000), "r3": None}
    assert [reject["detail"] for reject in rejected(out)] == [
        f"time: expected timestamp[ms, tz=UTC], found {times[2]!r}"
    ]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_whole_numbers_with_a_point_are_integers_and_others_are_none(tmp_path: Path, ending: str) -> None:
    numbers = ["1000.0", "-7.", "9007199254740993.00", "1000.5", "3", "1e3", ""]
    rows = [{"id": f"r{at}", "text": f"text {at}", "year": number} for at, number in enumerate(numbers)]
    folder, out = written(tmp_path / "in", rows, ending), tmp_path / "out"
    if ending == ".jsonl":
        lines = (f'{{"id": "r{at}", "text": "text {at}", "year": {n}}}' for at, n in enumerate(["1000.0", "2", "1.5"]))
        (folder / "numbers.jsonl").write_text("\n".join(lines))
    kept = ["--set", 'corpus.keep=["year"]', "--set", 'corpus.types={year = "int64"}']
    assert embed_corpus("run", "--input", folder, "--output", out, *HASHING, *kept).returncode == 0
    found = {row["id"]: row["year"] for row in read_dataset(out).to_pylist() if row["source"] != "numbers.jsonl"}
    assert found == {"r0": 1000, "r1": -7, "r2": 9007199254740993, "r4": 3, "r6": None}
    wrong = ["1000.5", "1e3"] + ["1.5"] * (ending == ".jsonl")
    assert sorted(each["detail"] for each in rejected(out)) == sorted(
        f"year: expected int64, found {n!r}" for n in wrong
    )


def test_where_compares_values_as_their_type(tmp_path: Path) -> None:
    rows = [{"id": f"r{year}", "text": "the same words", "year": str(year)} for year in (9, 10, 1000)]
    out = tmp_path / "out"
    kept = ["--set", 'corpus.keep=["year"]', "--set", 'corpus.types={year = "int64"}']
    folder = written(tmp_path / "in", rows, ".csv")
    assert embed_corpus("run", "--input", folder, "--output", out, *HASHING, *kept).returncode == 0
    done = embed_corpus("search", out, "words", "--where", "year > 9", "--json", *HASHING)
    assert {hit["id"] for hit in json.loads(done.stdout)} == {"r10", "r1000"}, done.stderr


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ({"year": "integer"}, "expected one of string, bool, int32, int64"),
        ({"yaer": "int64"}, "corpus.types expected columns that corpus.keep copies, found 'yaer'"),
    ],
)
def test_unknown_types_and_columns_are_refused(tmp_path: Path, types: Mapping[str, str], said: str) -> None:
    done = embed_corpus("plan", "--input", written(tmp_path / "in", ROWS, ".csv"), *asked(types))
    assert (done.returncode, said in done.stderr) == (UsageError.exit_code, True), done.stderr


def test_a_column_of_a_type_that_never_converts_is_refused_before_anything_is_embedded(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", [{**row, "year": [1]} for row in ROWS], ".parquet")
    done = embed_corpus("plan", "--input", folder, *asked())
    assert done.returncode == UsageError.exit_code
    assert "expected values that can be int64 (corpus.types) in column 'year', found list<" in done.stderr


@given(values=st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1).map(str), st.text("ab1 ", max_size=3), st.none())))
@settings(max_examples=100, derandomize=True)
def test_each_row_is_kept_or_rejected_by_its_own_value(values: list[str | None]) -> None:
    numbers = list(range(len(values)))
    rows = Rows(
        row=[-1, *numbers], id=["before", *map(str, numbers)], text=["t"] * (len(values) + 1), kept=pa.table({})
    )
    columns = Columns(text=("text",), template=None, id=None, keep=("k",), declared={"k": pa.int64()})
    found = as_declared({"k": pa.array(values, pa.string())}, rows, 1, columns)["k"].to_pylist()

    def is_number(text: str) -> bool:
        return text.lstrip("-").isascii() and text.lstrip("-").isdigit()

    plain = [(value or "").strip() for value in values]
    right = [at for at in numbers if not plain[at] or is_number(plain[at])]
    assert rows.row == [-1, *right]
    assert found == [int(plain[at]) if plain[at] else None for at in right]
    assert sorted(reject[0] for reject in rows.rejects) == [at for at in numbers if at not in right]
