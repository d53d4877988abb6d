"""The terminal: what data says is printed so that it moves no cursor, sets no title and makes no line of its own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.console import LOGGED_VARIABLE, in_one_line, note, quiet
from tests.support import HASHING, texts, write_jsonl
from tests.support.many import Call, run_all

# A title, a cleared screen, a line of its own, a line that is written over, text from right to left, a C1 control.
ODD = [
    "\x1b]0;PWNED\x07",
    "\x1b[2J\x1b[H",
    "a\ncomplete: 9 parts",
    "a\rgone",
    "\u202egpj.exe",
    "\x9b31m",
    "\u2028",
    "\x7f",
]


@given(st.text() | st.sampled_from(ODD))
def test_a_text_in_one_line_can_be_printed_and_says_what_was_there(text: str) -> None:
    found = in_one_line(text)
    assert found.isprintable()
    assert in_one_line(found) == found
    assert found == text or not text.isprintable()
    if "\\" not in text:
        assert found.encode("latin-1", "backslashreplace").decode("unicode_escape") == text


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_a_notice_is_one_line(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stderr.write", written.append)
        note(text)
    assert written[0].endswith("\n")
    assert written[0][:-1].isprintable()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an input of odd ids and names, and its dataset."""
    folder = tmp_path_factory.mktemp("odd")
    for number, odd in enumerate(ODD):
        rows: list[dict[str, Any]] = [{"id": f"{odd}{number}", "text": f"word1 {number}"}, {"id": odd, "text": None}]
        write_jsonl(folder / f"in/{number}{odd.replace('/', '')}.jsonl", [*rows, *texts(3)])
    done = run_all([Call(("run", "--input", folder / "in", "--output", folder / "out", *HASHING))])[0]
    assert done.returncode == 0, done.stderr
    return folder


def test_no_command_prints_what_a_terminal_obeys(output: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(output, tmp_path / "place"))
    part = next((place / "out/data").iterdir())
    for number, odd in enumerate(ODD):
        shutil.copy(part, place / f"out/data/{odd.replace('/', '')}{number}.parquet")  # orphans and strangers
    (place / f"in/bad{ODD[0]}.parquet").write_text("nothing")
    (place / f"in/{ODD[1]}.csv").write_text("a,b\n")
    source = ("--input", place / "in", "--output", place / "out", *HASHING)
    damaged = Path(shutil.copytree(output, tmp_path / "damaged")) / "out"
    for path in (damaged / "data").iterdir():
        path.unlink()
    calls = [
        ("status", place / "out"),
        ("verify", place / "out"),
        ("verify", place / "out", "--input", place / "in"),
        ("rejects", place / "out"),
        ("search", place / "out", "word1", "-k", "50"),
        ("plan", *source),
        ("run", *source),
        ("run", *source, "--skip-bad-files", "--prune"),
        ("verify", place / "out", "--repair"),
        ("verify", damaged),
        ("search", damaged, "word1"),
        ("slice", damaged, "--dim", "64", tmp_path / "cut"),
        ("run", "--input", f"{place}/{ODD[1]}", "--output", place / "new", *HASHING),
        ("search", f"{place}/{ODD[2]}", "x"),
        ("run", *source, "--set", f"model.{ODD[3]}=1"),
        ("run", *source, "--config", ODD[4]),
    ]
    for call, done in zip(calls, run_all([Call(call) for call in calls]), strict=True):
        printed = done.stdout + done.stderr
        assert all(line.isprintable() for line in printed.split("\n")), (call, printed)
        assert not any(line.startswith("complete: 9 parts") for line in printed.split("\n")), (call, printed)
        assert done.returncode != 1, (call, printed)


def test_json_holds_what_there_is(output: Path) -> None:
    calls = [("search", output / "out", "word1 0", "-k", "100", "--json"), ("rejects", output / "out", "--json")]
    hits, rejected = (json.loads(done.stdout) for done in run_all([Call(call) for call in calls]))
    assert {f"{odd}{number}" for number, odd in enumerate(ODD)} <= {hit["id"] for hit in hits}
    assert {row["id"] for row in rejected} == {*ODD}
    ids = [pq.read_table(part).column("id").to_pylist() for part in (output / "out/data").iterdir()]
    assert {*ODD} & {each for part in ids for each in part} == set()


def test_where_what_is_written_is_the_log_nothing_is_kept_back(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for logged, expected in (("", ""), ("1", "loading weights\n")):
        monkeypatch.setenv(LOGGED_VARIABLE, logged)
        with quiet():
            os.write(1, b"loading weights\n")
        assert capfd.readouterr().out == expected
