"""Bad inputs: each ends in a rejection with the right reason, or in one line that names the file."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from tests.support import HASHING, command, ids, texts, write_jsonl, write_parquet

GOOD = b'{"id": "good", "text": "a text"}'
ROWS = texts(40)
SEED = 5


def embed(capfd: pytest.CaptureFixture[str], corpus: Path, output: Path, *more: str) -> tuple[int, str]:
    """Run in this process; return the exit code and the one line on stderr that every failure must end in."""
    code = main(["run", "--input", str(corpus), "--output", str(output), *HASHING, *more])
    error = re.sub("embed-corpus: columns left out: .*\n", "", capfd.readouterr().err)
    assert error.count("\n") == (1 if code else 0), error
    assert "unexpected" not in error
    assert "Traceback" not in error
    return code, error


def reasons(output: Path) -> list[tuple[int, str]]:
    table = ds.dataset(output / "rejects", format="parquet").to_table(columns=["row", "reason"]).sort_by("row")
    return list(zip(table.column("row").to_pylist(), table.column("reason").to_pylist(), strict=True))


def check_accounted(corpus: Path, output: Path) -> None:
    """Every row of the input is there or rejected, and every file is sound."""
    assert main(["verify", str(output), "--input", str(corpus)]) == 0


BAD_LINES = {
    "an object that does not end": (b'{"text": "a"', "malformed_json"),
    "a string that does not end": (b'{"text": "a}', "malformed_json"),
    "a comma too many": (b'{"text": "a",}', "malformed_json"),
    "a colon too few": (b'{"text" "a"}', "malformed_json"),
    "single quotes": (b"{'text': 'a'}", "malformed_json"),
    "a bare key": (b'{text: "a"}', "malformed_json"),
    "a Python literal": (b'{"text": "a", "x": None}', "malformed_json"),
    "two objects": (b'{"text": "a"} {"text": "b"}', "malformed_json"),
    "objects with a comma between": (b'{"text": "a"},', "malformed_json"),
    "an array": (b'["text", "a"]', "malformed_json"),
    "the first line of an array": (b"[", "malformed_json"),
    "a string": (b'"text"', "malformed_json"),
    "a number": (b"17", "malformed_json"),
    "null": (b"null", "malformed_json"),
    "no JSON": (b"id,text", "malformed_json"),
    "a comment": (b'{"text": "a"} // text', "malformed_json"),
    "an unknown escape": (b'{"text": "\\x41"}', "malformed_json"),
    "a control character": (b'{"text": "a\x01b"}', "malformed_json"),
    "a NUL in a string": (b'{"text": "a\x00b"}', "malformed_json"),
    "nothing but NULs": (b"\x00" * 100, "malformed_json"),
    "a BOM in the middle": (b'\xef\xbb\xbf{"text": "a"}', "malformed_json"),
    "deep nesting": (b'{"text": ' + b"[" * 200_000, "malformed_json"),
    "a number of 10,000 digits": (b'{"text": "a", "n": ' + b"9" * 10_000 + b"}", "malformed_json"),
    "a byte that starts nothing": (b'{"text": "\xff"}', "invalid_utf8"),
    "a sequence cut short": (b'{"text": "\xe6\xbc"}', "invalid_utf8"),
    "an overlong sequence": (b'{"text": "\xc0\xaf"}', "invalid_utf8"),
    "a code point above Unicode": (b'{"text": "\xf4\x90\x80\x80"}', "invalid_utf8"),
    "an encoded surrogate": (b'{"text": "\xed\xa0\x80"}', "invalid_utf8"),
    "an escaped surrogate": (b'{"text": "\\ud83d"}', "invalid_utf8"),
    "Latin-1": ('{"text": "café"}'.encode("latin-1"), "invalid_utf8"),
    "UTF-16": (b"\xff\xfe" + '{"text": "a"}'.encode("utf-16-le"), "invalid_utf8"),
    "bad UTF-8 beside the text": (b'{"text": "a", "x": "\xff"}', "invalid_utf8"),
    "a null text": (b'{"text": null}', "null_text"),
    "no text": (b'{"id": "a"}', "null_text"),
    "an empty object": (b"{}", "null_text"),
    "a text under another case": (b'{"TEXT": "a"}', "null_text"),
    "an integer text": (b'{"text": 5}', "not_a_string"),
    "a text that is no number": (b'{"text": NaN}', "not_a_string"),
    "a boolean text": (b'{"text": true}', "not_a_string"),
    "a list of texts": (b'{"text": ["a"]}', "not_a_string"),
    "a nested text": (b'{"text": {"en": "a"}}', "not_a_string"),
    "an empty text": (b'{"text": ""}', "empty_text"),
    "white space": (b'{"text": " \\t\\u2003\\u00a0"}', "empty_text"),
}  # fmt: skip


# What a file is of which these lines are all there is.
OF_OTHER_KINDS = {
    "two objects", "objects with a comma between", "an array", "the first line of an array", "a string", "a number",
    "null", "no JSON", "nothing but NULs", "UTF-16",
}  # fmt: skip


def test_bad_lines_are_rejected_with_their_reasons_and_their_neighbours_are_embedded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = list(BAD_LINES.values())
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(line for each, _ in bad for line in (GOOD, each)) + b"\n" + GOOD)
    assert embed(capfd, tmp_path / "in.jsonl", tmp_path / "out") == (0, "")
    assert reasons(tmp_path / "out") == [(2 * at + 1, reason) for at, (_, reason) in enumerate(bad)]
    assert ids(tmp_path / "out") == ["good"] * (len(bad) + 1)
    check_accounted(tmp_path / "in.jsonl", tmp_path / "out")


def test_a_file_of_one_bad_line_is_not_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    bad = {name: each for name, each in BAD_LINES.items() if name != "a BOM in the middle"}  # at the start it is right
    for name, (line, _) in bad.items():
        (tmp_path / f"in/{name}.jsonl").write_bytes(line)
    code, error = embed(capfd, tmp_path / "in", tmp_path / "out")
    refused = {name for name, (_, reason) in bad.items() if reason == "null_text" and name != "a null text"}
    assert (code, error.count("expected column 'text'")) == (2, len(refused))  # no row has it: that is the file's fault
    assert {name for name in bad if f"{name}.jsonl: expected lines of JSON" in error} == OF_OTHER_KINDS
    refused |= OF_OTHER_KINDS
    for name in refused:
        (tmp_path / f"in/{name}.jsonl").unlink()
    code, error = embed(capfd, tmp_path / "in", tmp_path / "out")
    assert (code, f"found all {len(bad) - len(refused)} rejected" in error) == (3, True)
    table = ds.dataset(tmp_path / "out/rejects", format="parquet").to_table().to_pylist()
    assert {(row["source"], row["reason"]) for row in table} == {
        (f"{name}.jsonl", reason) for name, (_, reason) in bad.items() if name not in refused
    }
    check_accounted(tmp_path / "in", tmp_path / "out")


ODD_LINES: dict[str, tuple[bytes, list[str]]] = {
    "a null id": (b'{"id": null, "text": "a"}', ["in.jsonl:0"]),
    "an empty id": (b'{"id": "", "text": "a"}', ["in.jsonl:0"]),
    "no id": (b'{"text": "a"}', ["in.jsonl:0"]),
    "a number as id": (b'{"id": 7, "text": "a"}', ["7"]),
    "a nested id": (b'{"id": {"x": 1}, "text": "a"}', ['{"x":1}']),
    "an id that is no Unicode": (b'{"id": "\\ud800", "text": "a"}', ["\\ud800"]),
    "duplicate ids": (b'{"id": "x", "text": "a"}\n{"id": "x", "text": "b"}', ["x", "x"]),
    "a line of a megabyte": (b'{"id": "x", "text": "' + b"word " * 200_000 + b'"}', ["x"]),
    "a line of a megabyte without a space": (b'{"id": "x", "text": "' + b"w" * 1_000_000 + b'"}', ["x"]),
    "Windows line ends and a BOM": (b'\xef\xbb\xbf{"id": "x", "text": "a"}\r\n\r\n', ["x"]),
    "a NUL that is escaped": (b'{"id": "x", "text": "a\\u0000"}', ["x"]),
    "no file content": (b"", []),
    "blank lines": (b"\n \n\r\n\t\n", []),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_LINES)
def test_odd_lines_are_embedded(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, expected = ODD_LINES[name]
    (tmp_path / "in.jsonl").write_bytes(data)
    assert embed(capfd, tmp_path / "in.jsonl", tmp_path / "out") == (0, "")
    assert (ids(tmp_path / "out") if expected else []) == expected
    check_accounted(tmp_path / "in.jsonl", tmp_path / "out")


def parquet_bytes(columns: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, **options)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    frame: bytes = sink.getvalue().to_pybytes()
    return frame


LINES = b"".join(json.dumps(row).encode() + b"\n" for row in texts(3000))
PACKED, FRAME = gzip.compress(LINES, mtime=0), zstd(LINES)
PARQUET = parquet_bytes({"id": [row["id"] for row in ROWS], "text": [row["text"] for row in ROWS]})
TWICE = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "an empty Parquet file": ("x.parquet", b"", "expected a Parquet file"),
    "nothing but the magic": ("x.parquet", b"PAR1PAR1", "expected a Parquet file"),
    "lines named Parquet": ("x.parquet", LINES, "expected a Parquet file"),
    "NULs named Parquet": ("x.parquet", bytes(5000), "expected a Parquet file"),
    "a Parquet file that goes on": ("x.parquet", PARQUET + b"\n", "expected a Parquet file"),
    "a footer longer than the file": ("x.parquet", PARQUET[:-8] + b"\xff\xff\xff\x7fPAR1", "expected a Parquet file"),
    "a footer of zeros": ("x.parquet", PARQUET[:-300] + bytes(292) + PARQUET[-8:], "expected a Parquet file"),
    "an encrypted footer": ("x.parquet", PARQUET[:-4] + b"PARE", "expected a Parquet file"),
    "Parquet named lines": ("x.jsonl", PARQUET, "found Parquet; rename it"),
    "gzip named lines": ("x.jsonl", PACKED, "found gzip; rename it"),
    "zstd named lines": ("x.ndjson", FRAME, "found zstd; rename it"),
    "a zip archive named lines": ("x.jsonl", b"PK\x03\x04" + bytes(100), "found a zip archive; convert it"),
    "lines named gzip": ("x.jsonl.gz", LINES, "x.jsonl.gz: expected a readable file of lines"),
    "lines named zstd": ("x.jsonl.zst", LINES, "x.jsonl.zst: expected a readable file of lines"),
    "zstd named gzip": ("x.jsonl.gz", FRAME, "x.jsonl.gz: expected a readable file of lines"),
    "Parquet in gzip": ("x.jsonl.gz", gzip.compress(PARQUET), "found Parquet inside gzip; unpack it"),
    "gzip that goes on": ("x.jsonl.gz", PACKED + b"more", "x.jsonl.gz: expected a readable file of lines"),
    "a bit of gzip": ("x.jsonl.gz", flipped(PACKED, len(PACKED) // 2), "x.jsonl.gz: expected a readable file"),
    "a checksum of gzip": ("x.jsonl.gz", flipped(PACKED, len(PACKED) - 6), "x.jsonl.gz: expected a readable file"),
    "a text of numbers": ("x.parquet", parquet_bytes({"text": [1, 2]}), "expected text in column 'text', found int64"),
    "a text of lists": ("x.parquet", parquet_bytes({"text": [["a"]]}), "expected text in column 'text', found list"),
    "a text of structs": ("x.parquet", parquet_bytes({"text": [{"a": "b"}]}), "found struct"),
    "a text of times": ("x.parquet", parquet_bytes({"text": pa.array([0], pa.timestamp("ns"))}), "found timestamp"),
    "no text column": ("x.parquet", parquet_bytes({"body": ["a"]}), "expected column 'text', found body"),
    "no column at all": ("x.parquet", parquet_bytes({}), "expected column 'text', found none"),
    "two text columns": ("x.parquet", parquet_bytes(TWICE), "found several of that name"),
    "lines without a text": ("x.jsonl", b'{"body": "a"}\n' * 3, "expected column 'text', found body"),
    "a line that never ends": ("x.jsonl", b'{"text": "' + b"a" * (17 << 20), "expected lines of at most 16,777,216"),
    **{
        f"Parquet cut at {cut} of 20": ("x.parquet", PARQUET[: len(PARQUET) * cut // 20], "expected a Parquet file")
        for cut in range(20)
    },
    **{
        f"{name} cut at {cut} of 5": (f"x.jsonl.{name}", data[: len(data) * cut // 5 + 9], f"x.jsonl.{name}: expected")
        for name, data in (("gz", PACKED), ("zst", FRAME))
        for cut in range(5)
    },
}  # fmt: skip


def test_there_are_over_a_hundred_kinds_of_damage() -> None:
    assert len(BAD_LINES) + len(BAD_FILES) + len(NO_FILES) > 100


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_before_anything_is_embedded(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file, data, words = BAD_FILES[name]
    write_jsonl(tmp_path / "in/good.jsonl", ROWS[:2])
    (tmp_path / "in" / file).write_bytes(data)
    code, error = embed(capfd, tmp_path / "in", tmp_path / "out")
    assert (code, file in error, words in error) == (2, True, True), error
    assert not list((tmp_path / "out/data").iterdir())


def pipe(path: Path) -> None:
    os.mkfifo(path)


NO_FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "No such file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "Too many levels"),
    "a pipe": (pipe, "a pipe or a device"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
    "a file that cannot be read": (lambda path: path.symlink_to("/proc/self/mem"), "Input/output error"),  # a real EIO
}


@pytest.mark.parametrize("name", NO_FILES)
@pytest.mark.parametrize("file", ["x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_what_is_no_file_is_named_or_skipped(
    tmp_path: Path, name: str, file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, words = NO_FILES[name]
    write_jsonl(tmp_path / "in/good.jsonl", ROWS[:2])
    make(tmp_path / "in" / file)
    code, error = embed(capfd, tmp_path / "in", tmp_path / "out")
    assert (code, file in error) == (2, True), error
    assert words in error or (file == "x.parquet" and "expected a Parquet file" in error)
    assert (
        main(["run", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *HASHING, "--skip-bad-files"])
        == 0
    )
    assert f"skipped {file}" in capfd.readouterr().err
    assert main(["verify", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 3  # it is not all there


def test_a_folder_named_like_a_file_is_walked_and_circles_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "in/x.parquet/part-0.parquet", ROWS)
    (tmp_path / "in/y.jsonl").mkdir()
    (tmp_path / "in/x.parquet/up").symlink_to(tmp_path / "in")
    assert embed(capfd, tmp_path / "in", tmp_path / "out") == (0, "")
    assert sorted(ids(tmp_path / "out")) == sorted(row["id"] for row in ROWS)


WITHOUT_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]  # so that mode bits bind root too


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_may_not_be_read_is_named(tmp_path: Path, what: str) -> None:
    write_jsonl(tmp_path / "in/good.jsonl", ROWS[:2])
    secret = write_jsonl(tmp_path / "in/closed/x.jsonl", ROWS[:2])
    closed = secret if what == "file" else secret.parent
    closed.chmod(0)
    run = command("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    done = subprocess.run([*(WITHOUT_ROOT if os.geteuid() == 0 else []), *run], capture_output=True, text=True)
    closed.chmod(0o700)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "Permission denied" in done.stderr
    assert str(closed) in done.stderr


@pytest.mark.parametrize("where", ["pages", "footer"])
def test_a_flipped_bit_in_parquet_ends_in_an_error_that_names_the_file_or_in_every_row(
    tmp_path: Path, where: str, capfd: pytest.CaptureFixture[str]
) -> None:
    table = {"id": [row["id"] for row in ROWS], "text": [row["text"] for row in ROWS]}
    data = parquet_bytes(table, write_page_checksum=True, row_group_size=10)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    chance = random.Random(SEED)
    found: dict[int, int] = {}  # exit code -> how often
    for number in range(25):
        at = chance.randrange(4, footer) if where == "pages" else chance.randrange(footer, len(data))
        corpus, output = tmp_path / f"in-{number}.parquet", tmp_path / f"out-{number}"
        corpus.write_bytes(flipped(data, at))
        code, error = embed(capfd, corpus, output)
        found[code] = found.get(code, 0) + 1
        if code == 0:
            assert pq.read_table(output / "data").num_rows + pq.read_table(output / "rejects").num_rows == len(ROWS)
        else:
            assert code in (2, 3)
            assert corpus.name in error
    assert found.keys() - {0}


def test_a_damaged_page_far_into_a_file_leaves_the_other_chunks_embedded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = texts(2000)
    table = {"id": [row["id"] for row in rows], "text": [row["text"] for row in rows]}
    data = parquet_bytes(table, write_page_checksum=True, row_group_size=100)
    at = int(len(data) * 0.6)
    (tmp_path / "in.parquet").write_bytes(flipped(data, at))
    small = ("--set", "run.chunk_tokens=2000")
    code, error = embed(capfd, tmp_path / "in.parquet", tmp_path / "out", *small)
    assert (code, "in.parquet rows" in error) == (3, True), error
    assert 1500 <= len(ids(tmp_path / "out")) < 2000
    (tmp_path / "in.parquet").write_bytes(data)
    assert embed(capfd, tmp_path / "in.parquet", tmp_path / "out", *small) == (0, "")
    check_accounted(tmp_path / "in.parquet", tmp_path / "out")


def test_fewer_rows_than_the_footer_says_are_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_parquet(tmp_path / "in.parquet", ROWS)
    data = path.read_bytes()
    n_rows = bytes([2 * len(ROWS)])  # zigzag
    assert data.count(n_rows, len(data) - 700) >= 2
    head, tail = data[:-700], data[-700:]
    path.write_bytes(head + tail.replace(n_rows, bytes([2 * len(ROWS) + 2])))
    code, error = embed(capfd, path, tmp_path / "out")
    assert (code, "in.parquet" in error) == (2, True), error


class Touch:
    """Unpickles into a file on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_of_a_corpus_is_ever_executed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trap = tmp_path / "trap"
    poison = pickle.dumps(Touch(trap))
    pickle.loads(poison)
    trap.unlink()  # it works
    field = pa.field("x", pa.string()).with_metadata(
        {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": poison}
    )
    schema = pa.schema(
        [pa.field("text", pa.string()), field], metadata={"pandas": poison, "embed_corpus.receipt": poison}
    )
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], schema=schema), tmp_path / "in/a.parquet")
    (tmp_path / "in/b.jsonl").write_bytes(b"{\"text\": \"__import__('pathlib').Path('trap').touch()\"}\n")
    (tmp_path / "in/conftest.py").write_text(f"open({str(trap)!r}, 'w')")
    for name in ("model.pkl", "pytorch_model.bin", "x.npy"):
        (tmp_path / "in" / name).write_bytes(poison)
    run = ["run", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *HASHING]
    assert main([*run, "--set", 'corpus.keep=["x"]', "--skip-bad-files"]) == 0
    assert capfd.readouterr().err == "embed-corpus: left out 4 files of other kinds: 1 .bin, 1 .npy, 1 .pkl, 1 .py\n"
    assert len(ids(tmp_path / "out")) == 2
    assert not trap.exists()


def test_ids_and_kept_values_of_any_bytes_and_times_end_in_rows_or_in_an_error_that_names_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    offsets = np.array([0, 1, 2], np.int32)
    bad = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(b"a\xff")])
    columns: dict[str, Any] = {
        "bytes": bad,
        "list": pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad),
        "struct": pa.StructArray.from_arrays([bad], ["x"]),
        "map": pa.MapArray.from_arrays(pa.array([0, 1, 2], pa.int32()), pa.array(["k", "l"]), bad),
        "time": pa.array([2**62, -(2**62)], pa.timestamp("us")),
        "date": pa.array([2**31 - 1, 0], pa.date32()),
        "duration": pa.array([2**62, 0], pa.duration("s")),
        "decimal": pa.array([None, 1], pa.decimal256(70, 3)),
    }
    for name, column in columns.items():
        corpus = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"text": ["a", "b"], "odd": column}), corpus)
        for setting in ("corpus.id=odd", 'corpus.keep=["odd"]'):
            output = tmp_path / f"out-{name}-{'id' in setting}"
            code, error = embed(capfd, corpus, output, "--set", setting)
            assert (code == 0 and len(ids(output)) == 2) or (code in (2, 3) and corpus.name in error), (code, error)
