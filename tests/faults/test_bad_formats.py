"""Damaged files of every format: each is refused by its name, or read with a reason for each row that is none."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipeline.cli import main
from tests.support import HASHING, texts
from tests.support.damage import damages
from tests.support.formats import ENDINGS, write_rows

# Of each damage that leaves a file to be read: rows embedded, and rejected. All others are refused.
OF_TABLES = {
    "a schema alone": (0, 0), "a stream without its end": (12, 0),
}  # fmt: skip
OF_LINES = {
    "nothing": (0, 0), "its first byte": (0, 1), "cut at a quarter": (4, 1), "cut at a half": (7, 1),
    "cut by five bytes": (11, 1), "zeros after it": (12, 1), "zeros for its last quarter": (9, 1),
    "another beginning": (11, 1), "bytes after it": (12, 1), "twice": (24, 0), "two blocks swapped": (12, 0),
    "a BOM": (12, 0), "a code page": (11, 1), "NULs in it": (11, 1), "a quote that is not closed": (12, 1),
    "a bracket that is not closed": (12, 1), "deep nesting": (12, 1), "a number of 10,000 digits": (12, 1),
    "a key twice": (13, 0), "a value that is no object": (12, 1), "a string of no UTF-8": (12, 1),
    "half of a pair": (12, 1),
}  # fmt: skip
OF_ARRAYS = {
    "nothing": (0, 0), "another beginning": (0, 48), "two blocks swapped": (10, 2), "a BOM": (12, 0),
    "a code page": (11, 1), "NULs in it": (11, 1), "lines that end in CR": (12, 0), "deep nesting": (12, 1),
    "a number of 10,000 digits": (12, 1), "a key twice": (13, 0), "a value that is no object": (12, 1),
    "a string of no UTF-8": (12, 1), "half of a pair": (12, 1),
}  # fmt: skip
OF_DELIMITED = {
    "nothing": (0, 0), "cut at a quarter": (5, 0), "cut at a half": (8, 0), "cut by five bytes": (12, 0),
    "zeros after it": (12, 1), "zeros for its last quarter": (11, 0), "bytes after it": (12, 1),
    "twice": (25, 0), "two blocks swapped": (12, 0), "a BOM": (12, 0), "a code page": (11, 1),
    "NULs in it": (12, 0), "lines that end in CR": (12, 0), "the header alone": (0, 0),
    "the header twice": (13, 0), "a quote that is not closed": (3, 1),
    "a quote in the middle of a value": (12, 0), "a value too many": (11, 1), "a value too few": (11, 1),
}  # fmt: skip
OF_DOCUMENTS = {
    "nothing": (0, 1), "its first byte": (1, 0), "cut at a quarter": (1, 0), "cut at a half": (1, 0),
    "cut by five bytes": (1, 0), "zeros after it": (1, 0), "zeros for its last quarter": (1, 0),
    "another beginning": (0, 1), "bytes after it": (0, 1), "twice": (1, 0), "two blocks swapped": (1, 0),
    "a BOM": (1, 0), "a code page": (0, 1), "NULs in it": (1, 0), "lines that end in CR": (1, 0),
    "white space": (0, 1), "17 MB": (0, 1), "a word of a megabyte": (1, 0),
    "front matter without its end": (1, 0), "code without its end": (1, 0),
}  # fmt: skip
OF_PACKED = {
    "nothing": (0, 0), "zeros after it": (12, 0), "twice": (24, 0), "two members": (12, 0),
    "an empty member between": (12, 0), "a row cut by two members": (12, 0),
}  # fmt: skip
ONCE = {"twice": (12, 0)}  # a footer tells where its rows are: those of the first copy, which are the same
# Padding is refused after zstd, whose frames may be skipped but not be zeros.
OF_ZSTD = {name: counts for name, counts in OF_PACKED.items() if name != "zeros after it"}
READ = {
    ".parquet": ONCE,
    ".arrow": OF_TABLES,
    ".feather": OF_TABLES | ONCE,
    ".jsonl": OF_LINES,
    ".json": OF_ARRAYS,
    ".csv": OF_DELIMITED,
    ".tsv": OF_DELIMITED,
    ".md": OF_DOCUMENTS,
    ".txt": OF_DOCUMENTS,
    ".jsonl.gz": OF_PACKED,
    ".jsonl.bz2": OF_PACKED,
    ".jsonl.xz": OF_PACKED,
    ".jsonl.zst": OF_ZSTD,
}


SOURCE = pa.schema({"source": pa.string()})


@pytest.mark.parametrize("ending", READ)
def test_a_damaged_file_is_named_or_its_rows_are_accounted_for(
    tmp_path: Path, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source, output, found = tmp_path / "in", tmp_path / "out", damages(ending)
    source.mkdir()
    assert len(found) >= 10
    for name, data in found.items():
        (source / f"{name}{ending}").write_bytes(data)
    good = source / f"good{ending}"
    if ending in ENDINGS:
        write_rows(good, texts(2, start=900))
    else:
        good.write_text("a good text")
    run = ["run", "--input", str(source), "--output", str(output), *HASHING]
    assert main(run) == 2
    [line] = capfd.readouterr().err.splitlines()
    assert "try --skip-bad-files" in line
    assert not list((output / "data").iterdir())
    assert main([*run, "--skip-bad-files", "--json"]) == 0
    ended = capfd.readouterr()
    assert "Traceback" not in ended.err
    refused = {f"{name}{ending}" for name in found if name not in READ[ending]}
    assert {*json.loads(ended.out)["skipped_files"]} == refused
    assert [name for name in refused if f"embed-corpus: skipped {name}\n" not in ended.err] == []
    embedded, rejected = (
        Counter(ds.dataset(output / folder, SOURCE, format="parquet").to_table()["source"].to_pylist())
        for folder in ("data", "rejects")
    )
    counts = {name: (embedded[f"{name}{ending}"], rejected[f"{name}{ending}"]) for name in READ[ending]}
    assert counts == READ[ending]
    assert embedded[good.name] == (2 if ending in ENDINGS else 1)
    assert main(["verify", str(output), "--input", str(source)]) == 3  # what was skipped is missing


@pytest.mark.parametrize("ending", [".arrow", ".feather"])
def test_a_stream_with_more_after_its_end_is_not_read_in_part(
    tmp_path: Path, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "a.arrow", texts(9)).rename(tmp_path / f"b{ending}")
    path.write_bytes(path.read_bytes() * 2)
    assert main(["run", "--input", str(path), "--output", str(tmp_path / "out"), *HASHING]) == 2
    assert f"{path}: expected an Arrow IPC file or stream, found: more after the end" in capfd.readouterr().err
