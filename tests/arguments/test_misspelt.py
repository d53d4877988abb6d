"""What is misspelt is recognised, and said before what is missing; what a shell made of a glob is seen."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import shlex

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.arguments import COMMANDS, parse, parser

WORDS = st.text("abcxyz", min_size=1, max_size=4)


def error_of(*arguments: str) -> str:
    """Parse what must be refused; return its one line."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as end:
        parse(arguments)
    assert end.value.code == 2
    assert said.getvalue().count("\n") == 1
    return said.getvalue()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "run --input a --output b --limt 3",
            "unknown flag --limt; did you mean --limit? See `embed-corpus run --help`",
        ),
        ("run --inptu a --output b", "did you mean --input?"),
        ("run --ouput b", "did you mean --output?"),
        ("run --ouput=b --input a", "did you mean --output?"),
        ("run --keep_missing", "did you mean --keep-missing?"),
        ("run -input a -output b", "did you mean --input?"),
        ("run --chunk-tokens 5", "did you mean --set run.chunk_tokens=VALUE?"),
        ("run --max_seqs 5", "unknown flag --max_seqs; see `embed-corpus run --help`"),
        ("search d query -n 5", "unknown flag -n;"),
        ("--versoin", "did you mean --version?"),
        ("--debug run", "--debug: expected it after a command, such as `embed-corpus plan --debug`"),
        ("rnu", "unknown command 'rnu'; did you mean run?"),
        ("Verify out", "did you mean verify?"),
        ("rnu --ouput x", "did you mean run?"),
        ("help run", "did you mean --help?"),
        ("1234", "unknown command '1234'; expected plan, run, "),
        ("", "expected a command: plan, run, "),
        ("run --output x", "arguments are required: --input"),
        ("search d two words", "unexpected words: a value with spaces is written in quotes"),
        ("run --input b --output b b", "unexpected b:"),
    ],
)
def test_what_was_meant_is_said_in_one_line(line: str, words: str) -> None:
    assert words in error_of(*line.split())


@pytest.mark.parametrize(
    "line",
    [
        "run --inp a --out b",  # the beginning of a flag is enough, as before
        "search d -k5 query",
        "search d -- --ouput",
        "search d '-- a text --ouput'",
        "search d -- -5",
        "search d -5",
        "run --input=a --output=b --set=a.b=--ouput",
    ],
)
def test_what_is_right_passes(line: str) -> None:
    assert parse(shlex.split(line)).command == line.split()[0]


@given(data=st.data())
@settings(max_examples=200, derandomize=True)
def test_a_flag_with_two_letters_swapped_is_recognised(data: st.DataObject) -> None:
    command = data.draw(st.sampled_from([command.name for command in COMMANDS]))
    flags = [flag for flag in parser().commands[command].flags if flag.startswith("--") and len(flag) > 5]
    flag = data.draw(st.sampled_from(flags))
    at = data.draw(st.integers(2, len(flag) - 2))
    typed = flag[:at] + flag[at + 1] + flag[at] + flag[at + 2 :]
    assume(not any(known.startswith(typed) for known in flags))
    assert f"unknown flag {typed}; did you mean {flag}? See `embed-corpus {command} --help`" in error_of(command, typed)


def test_a_glob_that_the_shell_opened_is_seen() -> None:
    names = [f"data/part-{i}.parquet" for i in range(5)]
    said = error_of("verify", "d", "--input", *names)
    assert "expected one path, found data/part-0.parquet data/part-1.parquet data/part-2.parquet and 2 more" in said
    assert "write a glob in quotes" in said
    assert "--input 'data/part-*.parquet'" in said
    assert "--input 'data/part-*.parquet'" in error_of("verify", "d", f"--input={names[0]}", *names[1:])
    assert "--input data;" in error_of("verify", "d", "--input", *(f"data/{folder}/x.parquet" for folder in "abcd"))
    assert "--input '*.parquet'" in error_of("verify", "d", "--input", *(f"{name}.parquet" for name in "abcd"))


def test_a_few_paths_are_each_given_a_flag_of_their_own() -> None:
    said = error_of("verify", "d", "--input", "dup rows.csv", "t.parquet")
    assert "write --input 'dup rows.csv' --input t.parquet; see" in said
    assert "write --input b --input b; see" in error_of("verify", "d", "--input", "b", "b")


@given(names=st.lists(st.builds("{}{}.parquet".format, WORDS, WORDS), min_size=4, unique=True))
@settings(max_examples=100, derandomize=True)
def test_the_glob_that_is_proposed_has_every_path(names: list[str]) -> None:
    paths = [f"in/{name}" for name in names]
    said = error_of("verify", "d", "--input", *paths)
    [glob] = shlex.split(said.partition("otherwise: --input ")[2].partition("; see")[0])
    assert all(fnmatch.fnmatchcase(path, glob) for path in paths)
