"""The types of kept columns over runs: one for the whole corpus, known without reading finished lines again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from pipeline.corpus import stream
from pipeline.corpus.textual import byte_reader, lines
from pipeline.driver.inventory import RunOptions
from pipeline.errors import CorpusError
from tests.support import HASHING, embed_corpus, ids, read_dataset, write_jsonl
from tests.support.columns import columns, exactly
from tests.support.crash import crashing_run, hashing_run
from tests.support.many import Call, run_all

KEEP: dict[str, Any] = {"corpus__keep": '["k"]', "run__chunk_tokens": 200}
BIG = 2**53 + 1


def write(path: Path, values: Sequence[Any]) -> Path:
    """Write a file whose kept column has these values; its texts are its own."""
    texts = [f"text {n} of {path.name}" for n in range(len(values))]
    if path.suffix != ".parquet":
        return write_jsonl(path, ({"text": text, "k": value} for text, value in zip(texts, values, strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = values if isinstance(values, pa.Array) else pa.array(values)
    pq.write_table(pa.table({"text": texts, "k": kept}), path)
    return path


def types(output: Path) -> set[pa.DataType]:
    return {pq.read_schema(path).field("k").type for path in (output / "data").iterdir()}


@pytest.mark.parametrize(
    ("files", "kind", "kept"),
    [
        ([[1, None], [-(2**63), BIG]], pa.int64(), [1, None, -(2**63), BIG]),
        ([[True], [None, False]], pa.bool_(), [True, None, False]),
        ([[0.5, None], [1e300]], pa.float64(), [0.5, None, 1e300]),
        ([[1, 2**53], [0.5]], pa.float64(), [1.0, 2.0**53, 0.5]),
        ([[BIG], [0.5]], pa.string(), [str(BIG), "0.5"]),
        ([[1], [True]], pa.string(), ["1", "true"]),
        ([[1], ["1"]], pa.string(), ["1", "1"]),
        ([[2**63], [1]], pa.string(), [str(2**63), "1"]),
        ([[0.5], [float("nan"), float("-inf")]], pa.string(), ["0.5", "NaN", "-Infinity"]),
        ([[None], [None]], pa.string(), [None, None]),
        ([[[1, None]], [{"a": float("inf")}]], pa.string(), ["[1,null]", '{"a":Infinity}']),
        ([["\ud800"], ["\ud801"]], pa.string(), ["\\ud800", "\\ud801"]),
    ],
    ids=str,
)
def test_values_of_lines_keep_their_type_where_all_rows_agree(
    tmp_path: Path, files: list[list[Any]], kind: pa.DataType, kept: list[Any]
) -> None:
    for number, values in enumerate(files):
        write(tmp_path / f"in/{number}.jsonl", values)
    hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)
    assert types(tmp_path / "out") == {kind}
    assert read_dataset(tmp_path / "out").column("k").to_pylist() == kept


@given(column=columns())
@settings(max_examples=12)
def test_a_run_keeps_values_of_any_type_as_they_were(column: pa.Array, tmp_path: Path) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    stored = pq.read_table(write(folder / "in/a.parquet", column)).column("k")
    hashing_run(folder / "in", folder / "out", **KEEP)
    assert exactly(read_dataset(folder / "out").column("k")) == exactly(stored)
    assert hashing_run(folder / "in", folder / "out", **KEEP)["kept_rows"] == len(column)


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        (pa.array([7], pa.int32()), [1, None], pa.int64()),
        (pa.array([0.5], pa.float32()), [1], pa.float64()),
        (pa.array([7], pa.int16()), [0.5], pa.float64()),
        (pa.array(["x"], pa.string_view()), ["y"], pa.string()),
        (pa.array([7], pa.timestamp("us")), [None], pa.timestamp("us")),
        (pa.array([b"0" * 16], pa.uuid()), [None], pa.uuid()),
        (pa.array([[1]], pa.list_view(pa.int8())), [None], pa.list_(pa.field("element", pa.int8()))),
        (pa.array([7], pa.int64()), [0.5], pa.string()),
    ],
    ids=str,
)
def test_lines_and_parquet_have_one_type(
    tmp_path: Path, column: pa.Array, values: list[Any], kind: pa.DataType
) -> None:
    write(tmp_path / "in/a.parquet", column)
    write(tmp_path / "in/b.jsonl", values)
    hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)
    assert types(tmp_path / "out") == {kind}
    found = read_dataset(tmp_path / "out").column("k").to_pylist()
    assert found == [*column.to_pylist(), *values] or found == ["7", "0.5"]


def test_a_type_changes_with_the_files_and_costs_no_engine(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(source / "a.jsonl", range(100))
    hashing_run(source, output, **KEEP)
    for name, values, kind in (
        ("b.jsonl", [0.5], pa.float64()),
        ("c.jsonl", ["x"], pa.string()),
        ("d.parquet", [True], pa.string()),
        ("c.jsonl", [1], pa.string()),
        ("d.parquet", None, pa.float64()),
        ("b.jsonl", None, pa.int64()),
    ):
        if values is None:
            (source / name).unlink()
        else:
            write(source / name, values)
        told = hashing_run(source, output, RunOptions(prune=True), **KEEP)
        assert told["embedded_now"] <= 1
        assert types(output) == {kind}
        again = hashing_run(source, output, **KEEP)
        assert (again["reused_rows"], again["embedded_now"]) == (0, 0)
    hashing_run(source, tmp_path / "new", **KEEP)
    assert read_dataset(output).equals(read_dataset(tmp_path / "new"))


def test_a_finished_file_of_lines_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "HEAD_BYTES", 1000)
    monkeypatch.setattr(byte_reader, "SAMPLED_BYTES", 1000)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 1000)
    write(tmp_path / "in/a.jsonl", range(2000))
    hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)
    read: list[int] = []
    real = stream.Cursor.read

    def counted(self: stream.Cursor, n_bytes: int) -> bytes:
        data = real(self, n_bytes)
        read.append(len(data))
        return data

    monkeypatch.setattr(stream.Cursor, "read", counted)
    told = hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)
    assert (told["kept_rows"], sum(read)) == (2000, 1000)
    write(tmp_path / "in/b.jsonl", range(2))
    read.clear()
    assert hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)["kept_rows"] == 2000
    assert sum(read) < 9000  # of 85,000: the heads of both


@pytest.mark.parametrize("kill_at", [15, 40])
def test_a_run_that_died_goes_on_with_the_types_of_its_parts(tmp_path: Path, kill_at: int) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write(source / "a.jsonl", [*range(300), 0.5])
    assert crashing_run(source, output, kill_at, **KEEP).killed
    hashing_run(source, output, **KEEP)
    assert types(output) == {pa.float64()}
    write(source / "b.jsonl", ["x"])
    assert crashing_run(source, output, kill_at, **KEEP).killed
    n_waiting = len(list(output.glob(".next/*/data/part-*")))
    assert (hashing_run(source, output, **KEEP)["kept_rows"] > 0) == (n_waiting > 0)
    assert types(output) == {pa.string()}
    assert n_waiting or kill_at == 15
    hashing_run(source, tmp_path / "new", **KEEP)
    assert read_dataset(output).equals(read_dataset(tmp_path / "new"))


def test_a_limit_has_the_types_of_the_rows_within_it(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", [*range(10), *(["x"] * 10)])
    for _ in range(2):
        hashing_run(tmp_path / "in", tmp_path / "out", RunOptions(limit=10), **KEEP)
        assert (types(tmp_path / "out"), len(ids(tmp_path / "out"))) == ({pa.int64()}, 10)
    assert hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)["embedded_now"] == 10
    assert (types(tmp_path / "out"), len(ids(tmp_path / "out"))) == ({pa.string()}, 20)


@pytest.mark.parametrize(
    ("before", "after", "n_kept"),
    [
        ([1, 2], [1, 2], 2),
        ([1, 2], [1, 3], 0),
        ([1, 2], [1.0, 2], 0),
        (["1", 2], ["1", "2"], 0),
        ([0.5, 1], [0.5, 1.0], 0),
    ],
)
def test_a_file_that_was_touched_is_compared_in_the_types_of_its_parts(
    tmp_path: Path, before: list[Any], after: list[Any], n_kept: int
) -> None:
    source = tmp_path / "in"
    write(source / "a.jsonl", before)
    hashing_run(source, tmp_path / "out", **KEEP)
    os.utime(write(source / "a.jsonl", after), ns=(1, 1))
    told = hashing_run(source, tmp_path / "out", **KEEP)
    assert (told["kept_rows"], told["embedded_now"]) == (n_kept, 0)
    hashing_run(source, tmp_path / "new", **KEEP)
    assert read_dataset(tmp_path / "out").equals(read_dataset(tmp_path / "new"))


def test_rows_of_lines_that_are_rejected_count_and_lines_without_an_object_do_not(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "a", "k": 1}\n\n{"text": "\xff", "k": 2}\n{"text": null, "k": 3}\n'
        b'no json\n[1]\n{"text": "b", "k": 4}'
    )
    hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)
    assert read_dataset(tmp_path / "out").column("k").to_pylist() == [1, 4]
    assert hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)["kept_rows"] == 2
    with (tmp_path / "in/a.jsonl").open("ab") as file:
        file.write(b'\n{"text": null, "k": "a string"}')
    hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)
    assert read_dataset(tmp_path / "out").column("k").to_pylist() == ["1", "4"]


def run(source: Path, output: Path, keep: Sequence[str], *more: str) -> Call:
    keeping = ("--set", f"corpus.keep={json.dumps(keep)}")
    return Call(["run", "--input", source, "--output", output, *HASHING, *keeping, *more])


def test_what_becomes_of_columns_is_said_once(tmp_path: Path) -> None:
    row = {"text": "a", "k": 1, "source": "web", **{f"c{n:02}": n for n in range(12)}}
    write_jsonl(tmp_path / "in/a.jsonl", [row, {**row, "text": "b", "k": "x"}])
    write_jsonl(tmp_path / "few/a.jsonl", [{"text": "a", "id": 5, "meta": {"lang": "en"}, "url": "u"}])
    first, again, few, none = run_all(
        [
            run(tmp_path / "in", tmp_path / "out", ["k", "source"]),
            run(tmp_path / "in", tmp_path / "out", ["k", "source"]),
            run(tmp_path / "few", tmp_path / "few-out", ["meta.lang"]),
            run(tmp_path / "few", tmp_path / "none-out", ["meta", "url"]),
        ]
    )
    assert [done.returncode for done in (first, again, few, none)] == [0, 0, 0, 0]
    names = ", ".join(f"c{n:02}" for n in range(10))
    said = first.stderr.splitlines()
    assert f"embed-corpus: columns left out: {names} and 2 more (corpus.keep keeps them)" in said
    assert sum("column k is stored as text" in line and "integers, strings" in line for line in said) == 1
    assert sum("column source is stored as corpus_source" in line for line in said) == 1
    assert again.stderr == ""
    assert "columns left out: url (" in few.stderr
    [said_of_meta] = none.stderr.splitlines()
    assert "column meta is stored as text, as no type holds all of: lists, objects" in said_of_meta
    table = read_dataset(tmp_path / "out")
    assert table.column("corpus_source").to_pylist() == ["web", "web"]
    assert table.column("source").to_pylist() == ["a.jsonl", "a.jsonl"]


def test_a_kept_column_that_nothing_has_is_refused_in_every_format(tmp_path: Path) -> None:
    row = {"text": "a", "lang": "en", "meta": {"year": 1}}
    write_jsonl(tmp_path / "lines/a.jsonl", [row])
    write_jsonl(tmp_path / "packed/a.ndjson.gz", [row])
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows/a.parquet")
    calls = [
        run(tmp_path / kind, tmp_path / f"out-{kind}-{name}", [name])
        for kind in ("lines", "packed", "rows")
        for name in ("lnag", "meta.yaer")
    ]
    for done, call in zip(run_all(calls), calls, strict=True):
        assert done.returncode == 2
        name = str(call.arguments[-1]).split('"')[1]
        assert name in done.stderr
        assert "text, lang, meta" in done.stderr
        assert f"did you mean '{'lang' if name == 'lnag' else 'meta'}'?" in done.stderr
        assert not list(Path(call.arguments[4]).glob("data/*"))


def test_a_column_that_some_lines_have_is_null_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "in/a.jsonl", [1])
    write_jsonl(tmp_path / "in/b.jsonl", [{"text": "without"}])
    (tmp_path / "in/c.jsonl").touch()
    hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)
    assert read_dataset(tmp_path / "out").column("k").to_pylist() == [1, None]
    (tmp_path / "in/a.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"expected column 'k', found text$"):
        hashing_run(tmp_path / "in", tmp_path / "out", **KEEP)


def test_int96_is_exact_or_refused_by_name(tmp_path: Path) -> None:
    def write_int96(name: str, values: Sequence[int], unit: str) -> Path:
        columns = {"text": [f"text {n}" for n in range(len(values))], "k": pa.array(values, pa.timestamp(unit))}
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / "a.parquet", use_deprecated_int96_timestamps=True)
        return tmp_path / name

    years = [-62_135_596_800_000_000, -1, 0, 4_102_444_800_000_001, 253_402_214_400_000_000]
    hashing_run(write_int96("years", years, "us"), tmp_path / "out", **KEEP)
    assert read_dataset(tmp_path / "out").column("k").cast(pa.int64()).to_pylist() == years
    fine = write_int96("fine", [1000, 1001], "ns")
    for number, setting in enumerate([("--set", 'corpus.keep=["k"]'), ("--set", "corpus.id=k")]):
        done = embed_corpus("run", "--input", fine, "--output", tmp_path / f"fine-{number}", *HASHING, *setting)
        assert done.returncode in (2, 3)
        assert "a.parquet" in done.stderr
        assert "column 'k'" in done.stderr
