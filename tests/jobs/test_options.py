"""The flags of `embed-corpus run` on Modal: each that makes sense there exists, and arrives."""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs import embed_corpus
from jobs.request import Request, named_inputs, packed, signed
from pipeline.arguments import parser
from pipeline.driver.inventory import RunOptions
from pipeline.errors import UsageError
from tests.support import REPOSITORY, read_dataset, status, texts, write_jsonl
from tests.support.modal_jobs import house, needs_plane

HERE_ALONE = {
    "--allow-untrained-dim",
    "--debug",
    "--help",
    "--model",  # on Modal a config names it, likewise
    "--json",  # on Modal `jobs/status.py` prints it
    "--set",  # on Modal a config file says it: the service was deployed with one
    "--strict",
}
OF_THE_DRIVER = {"streams", "tokens_per_s"}  # options that no flag sets
OPTIONS = [name for name in RunOptions.__slots__ if name not in OF_THE_DRIVER]
MAIN: Any = embed_corpus.main.info.raw_f


def flags_of_run() -> set[str]:
    return {flag for flag in parser().commands["run"].flags if flag.startswith("--")}


def test_each_flag_of_run_that_makes_sense_on_modal_exists_there() -> None:
    flags = {f"--{name.replace('_', '-')}" for name in inspect.signature(MAIN).parameters}
    assert flags_of_run() - flags == HERE_ALONE


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--ouput", "x"], "--output"),
        (["--input", "a", "--keep_missing"], "--keep-missing"),
        (["--dyr-run"], "--dry-run"),
    ],
)
def test_a_misspelt_flag_is_recognised_before_what_is_missing(arguments: list[str], meant: str) -> None:
    command = [sys.executable, "-m", "modal", "run", "jobs/embed_corpus.py", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"'{meant}'" in done.stderr.partition("Did you mean")[2]
    assert "Missing option" not in done.stderr


def test_every_option_of_a_run_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    options = RunOptions(limit=7, rebuild=True, rehash=True, keep_missing=True, skip_bad_files=True, prune=True)
    assert all(getattr(options, name) != getattr(RunOptions(), name) for name in OPTIONS)
    asked: list[Mapping[str, Any]] = []

    class Plan:
        def remote(self, request: Mapping[str, Any]) -> dict[str, Any]:
            asked.append(request)
            return {"exit_code": 2, "error": "seen", "notes": []}

    monkeypatch.setattr(embed_corpus, "_driver", lambda function: contextlib.nullcontext((Plan(), False)))
    with pytest.raises(SystemExit):
        MAIN(
            input="books/",
            config="configs/hashing.toml",
            dry_run=True,
            **{name: getattr(options, name) for name in OPTIONS},
        )
    request = signed(
        Request(input="books", output="books", config="configs/hashing.toml", options=options), own_class=False
    )
    assert asked == [packed(request)]
    assert msgspec.convert(asked[0], Request) == request


@needs_plane
def test_rehash_keep_missing_and_skip_bad_files_arrive(tmp_path: Path) -> None:
    rows = texts(30)
    files = tmp_path / "corpus/few"
    with house(tmp_path, seeded=False) as home:
        gone, changed = write_jsonl(files / "a.jsonl", rows[:10]), write_jsonl(files / "b.jsonl", rows[10:])
        home.plane.seed("embedding-corpus", tmp_path / "corpus")
        home.run("--input", "few/")
        before = changed.stat()
        changed.write_text(changed.read_text().replace(rows[20]["text"], rows[20]["text"].swapcase()))
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
        gone.unlink()
        assert home.modal("volume", "rm", "embedding-corpus", "few/a.jsonl").returncode == 0
        (files / "bad.jsonl").write_text('{"body": "no text"}\n')
        home.plane.seed("embedding-corpus", tmp_path / "corpus")
        printed = home.run("--input", "few/", "--rehash", "--keep-missing", "--skip-bad-files")
        assert "embed-corpus: skipped bad.jsonl" in printed
        assert "this run embedded 1 text, reused 29 rows, removed 1 row in" in printed
        home.check_complete("few", tmp_path / "out", rows)


def test_several_inputs_are_between_commas() -> None:
    assert named_inputs("wiki/") == "wiki"
    assert named_inputs("wiki/, a b/*.jsonl") == ("wiki", "a b/*.jsonl")
    request = Request(input=("wiki", "news"), output="all")
    assert msgspec.convert(packed(request), Request) == request


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wiki,../x", "--input ../x: expected a path below the volume"),
        ("wiki,", "expected a path below the volume"),
        ("-", "found standard input, which is not there; write its lines to a file: `modal volume put"),
    ],
)
def test_an_input_that_is_not_on_the_volume_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        named_inputs(text)
    assert said in str(error.value)


def test_several_inputs_have_no_default_output(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        MAIN(input="wiki,news", config="configs/hashing.toml", dry_run=True)
    assert ended.value.code == UsageError.exit_code
    assert "--output: expected a name, as there are 2 inputs" in capsys.readouterr().err


@needs_plane
def test_an_input_that_is_added_embeds_its_texts_alone(tmp_path: Path) -> None:
    rows = texts(30)
    for folder, some in (("wiki", rows[:10]), ("news", rows[10:])):
        write_jsonl(tmp_path / "corpus" / folder / "rows.jsonl", some)
    with house(tmp_path, seeded=False) as home:
        home.plane.seed("embedding-corpus", tmp_path / "corpus")
        home.run("--input", "wiki/", "--output", "all")
        home.run("--input", "wiki/,news/", "--output", "all")
        output = home.dataset("all", tmp_path / "all")
    assert status(output)["embedded_now"] == 20
    assert set(read_dataset(output)["source"].to_pylist()) == {"wiki/rows.jsonl", "news/rows.jsonl"}
