"""JSON lines through a pipe: kept in a file until the run is complete, so that a run that is killed goes on."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest

from pipeline.commands.spool import going_on, spool_of
from pipeline.errors import CorpusError, OutputLockedError, UsageError
from tests.support import HASHING, command, embed_corpus, read_dataset, status, texts

LINES = "".join(json.dumps(row) + "\n" for row in texts(20_000))


def piped(lines: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), input=lines, capture_output=True, text=True)


def test_a_run_leaves_nothing_beside_the_dataset(tmp_path: Path) -> None:
    done = piped(LINES[:5000].rpartition("\n")[0], "run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    assert done.returncode == 0, done.stderr
    assert f"bytes are in {tmp_path}/out.input/stdin.jsonl until the run is complete" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert read_dataset(tmp_path / "out")["source"].unique().to_pylist() == ["stdin.jsonl"]


def ended(output: Path, by: signal.Signals) -> int:
    """Start a run over a pipe and end it by a signal once it has a part; return the rows of its parts."""
    run = command("run", "--input", "-", "--output", output, *HASHING, "--set", "run.chunk_tokens=5000")
    with subprocess.Popen(run, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(LINES)
            process.stdin.close()
        while process.poll() is None and not any((output / "data").glob("part-*.parquet")):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        process.send_signal(by)
    return len(read_dataset(output))


@pytest.mark.parametrize("again", ["the file", "the pipe"])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_goes_on(tmp_path: Path, again: str, by: signal.Signals) -> None:
    output = tmp_path / "out"
    n_before = ended(output, by)
    assert 0 < n_before < 20_000
    spool = spool_of(str(output))
    assert spool.read_text() == LINES
    if again == "the file":
        done = embed_corpus("run", "--input", spool, "--output", output, *HASHING)
    else:
        done = piped(LINES, "run", "--input", "-", "--output", output, *HASHING)
    assert done.returncode == 0, done.stderr
    found = status(output)
    assert (found["input_rows"], found["state"]) == (20_000, "complete")
    assert found["embedded_now"] == 20_000 - n_before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_pipe_that_breaks_off_by_a_kill_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    run = command("run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    with subprocess.Popen(run, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(LINES)  # more than a pipe holds: the process has begun to read
            process.kill()
    assert not (tmp_path / "out").exists()
    assert not spool_of(str(tmp_path / "out")).exists()


def test_a_second_run_does_not_touch_the_file_of_the_first(tmp_path: Path) -> None:
    run = ("run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    with subprocess.Popen(command(*run), stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(LINES)
        process.stdin.flush()
        second = piped(LINES[:100], *run)
        assert second.returncode == OutputLockedError.exit_code, second.stderr
        process.stdin.close()
    assert process.returncode == 0
    assert status(tmp_path / "out")["input_rows"] == 20_000
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_verify_reads_no_pipe(tmp_path: Path) -> None:
    assert piped(LINES, "run", "--input", "-", "--output", tmp_path / "out", *HASHING).returncode == 0
    done = piped(LINES, "verify", tmp_path / "out", "--input", "-")
    assert done.returncode == UsageError.exit_code
    assert "`plan` and `run` alone read standard input" in done.stderr


def test_what_goes_on_names_the_file(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    asked = Namespace(input=["-"], output=output)
    file = str(spool_of(output))
    assert going_on(["x", "run", "--input", "-"], asked) == ["x", "run", "--input", file]
    assert going_on(["x", "run", "--input=-"], asked) == ["x", "run", f"--input={file}"]
    assert going_on(["x", "-"], Namespace(input=["a"], output=output)) == ["x", "-"]


def test_a_plan_of_a_pipe_writes_nothing(tmp_path: Path) -> None:
    done = piped(LINES, "plan", "--input", "-", "--output", tmp_path / "out", *HASHING, "--json")
    assert json.loads(done.stdout)["input_rows"] == 20_000
    assert not list(tmp_path.iterdir())


def test_an_empty_pipe_is_no_input(tmp_path: Path) -> None:
    done = piped("", "run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    assert done.returncode == CorpusError.exit_code
    assert "found an empty pipe" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_terminal_is_no_pipe(tmp_path: Path) -> None:
    _, terminal = pty.openpty()
    run = command("run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    done = subprocess.run(run, stdin=terminal, capture_output=True, text=True)
    os.close(terminal)
    assert done.returncode == UsageError.exit_code
    assert "found a terminal" in done.stderr
