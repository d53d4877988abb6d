"""An input and an output are apart, whichever is named how."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.corpus.apart import check_input
from pipeline.errors import UsageError
from tests.support import texts, write_jsonl


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_jsonl(tmp_path / "in/a.jsonl", texts(1))
    write_jsonl(tmp_path / "in/sub/b.jsonl", texts(1))
    (tmp_path / "link").symlink_to("in/sub")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("input", "output", "where"),
    [
        ("in", "in", "the input itself"),
        ("in", "./in/../in/", "the input itself"),
        ("in", "in/out", "one inside the input"),
        ("in", "link/out", "one inside the input"),
        (".", "out", "one inside the input"),
        ("in/sub", "in", "the input inside it"),
        ("link", "in", "the input inside it"),
        ("in/a.jsonl", "in", "the input inside it"),
        ("in/*.jsonl", "in", "the input itself"),
        ("in/**/*.jsonl", "in/out", "one inside the input"),
        ("in/*/*.jsonl", "in/out", "one inside the input"),
        ("in/*/data/*.parquet", "in/out", "one inside the input"),
    ],
)
def test_one_inside_the_other_is_refused_with_that_reason(input: str, output: str, where: str) -> None:
    with pytest.raises(UsageError, match=rf"output .* --input .*, found {where}; choose another --output"):
        check_input(input, Path(output))


@pytest.mark.parametrize(
    ("input", "output"),
    [
        ("in", "out"),
        ("in", "in2"),
        ("in/a.jsonl", "in/out"),
        ("in/*.jsonl", "in/out"),
        ("in/*/b.jsonl", "in/out"),
        ("in/sub", "in/out"),
        ("*/a.jsonl", "in/out"),
    ],
)
def test_two_that_do_not_meet_are_let_through(input: str, output: str) -> None:
    check_input(input, Path(output))


@pytest.mark.parametrize(
    ("input", "found"),
    [("", "nothing"), (" ", "nothing"), ("s3://bucket/in", "an address"), ("https://x.example/a.jsonl", "an address")],
)
def test_an_input_that_names_nothing_here_is_refused(input: str, found: str) -> None:
    with pytest.raises(UsageError, match=f"--input.*found {found}"):
        check_input(input, Path("out"))
