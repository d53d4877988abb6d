"""`--input -`: lines from a pipe are kept in a file until their run is whole, so that a killed one goes on."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.errors import OutputLockedError, UsageError
from tests.support import HASHING, command, ids, status, texts

ROWS = texts(400)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def lines(rows: Sequence[Mapping[str, str]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def piped(data: bytes, env: Mapping[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments, *HASHING), input=data, env=env, capture_output=True, check=False)


def kept(env: Mapping[str, str]) -> list[Path]:
    return [path for path in Path(env["XDG_CACHE_HOME"]).rglob("*") if path.is_file() and "stdin" in str(path)]


def test_lines_of_a_pipe_are_embedded_and_leave_nothing_behind(tmp_path: Path, env: dict[str, str]) -> None:
    out = tmp_path / "out"
    done = piped(lines(ROWS), env, "run", "--input", "-", "--output", out)
    assert done.returncode == 0, done.stderr
    assert sorted(ids(out)) == sorted(row["id"] for row in ROWS)
    assert kept(env) == []
    assert not [*(tmp_path / "cache/embed-corpus/stdin").iterdir()]
    more = [*ROWS[1:], *texts(1, start=1000)]
    done = piped(lines(more), env, "run", "--input", "-", "--output", out)
    assert done.returncode == 0, done.stderr
    assert (status(out)["embedded_now"], sorted(ids(out))) == (1, sorted(row["id"] for row in more))


def test_a_killed_run_goes_on_by_what_it_said(tmp_path: Path, env: dict[str, str]) -> None:
    out = tmp_path / "out"
    asked = command("run", "--input", "-", "--output", out, *HASHING, "--set", "run.chunk_tokens=1")
    with subprocess.Popen(asked, env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(lines(ROWS))
        process.stdin.close()
        said = process.stderr.readline().decode()
        process.kill()
    [path] = kept(env)
    assert path.read_bytes() == lines(ROWS)
    again = shlex.split(said.partition("where it is stopped, ")[2].removesuffix(" goes on\n"))
    assert again == ["--input", str(path)]
    done = piped(b"", env, "run", *again, "--output", out)
    assert done.returncode == 0, done.stderr
    assert sorted(ids(out)) == sorted(row["id"] for row in ROWS)
    assert kept(env) == []


def test_a_pipe_that_breaks_off_by_a_kill_leaves_no_file_that_looks_whole(tmp_path: Path, env: dict[str, str]) -> None:
    asked = command("run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    with subprocess.Popen(asked, env=env, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines(texts(20_000)))  # more than a pipe holds: the process has begun to read
        process.kill()
    assert [path.name for path in kept(env)] in ([], ["stdin.tmp"])
    assert not (tmp_path / "out").exists()
    done = piped(lines(ROWS), env, "run", "--input", "-", "--output", tmp_path / "out")
    assert (done.returncode, kept(env)) == (0, []), done.stderr


def test_a_plan_of_a_pipe_keeps_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    for asked in (["plan", "--input", "-"], ["run", "--input", "-", "--output", tmp_path / "out", "--dry-run"]):
        done = piped(lines(ROWS), env, *asked, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["input_rows"] == len(ROWS)
    assert kept(env) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--input", "-", "--output", "out"], b"expected JSON lines from a pipe, found nothing"),
        (["run", "--input", "-", "x", "--output", "out"], b"expected standard input alone, found 1 more inputs"),
    ],
)
def test_what_is_no_pipe_of_lines_is_one_line(
    tmp_path: Path, env: dict[str, str], arguments: list[str], said: bytes
) -> None:
    done = subprocess.run(command(*arguments, *HASHING), input=b"", env=env, cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n")) == (UsageError.exit_code, 1)
    assert said in done.stderr
    assert not (tmp_path / "out").exists()
    assert kept(env) == []


def test_a_terminal_is_refused_at_once(tmp_path: Path, env: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    asked = command("run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    done = subprocess.run(asked, stdin=theirs, env=env, capture_output=True)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == UsageError.exit_code
    assert b"found a terminal; pipe them, or name a file" in done.stderr


def test_a_second_run_of_the_same_output_does_not_touch_the_lines_of_the_first(
    tmp_path: Path, env: dict[str, str]
) -> None:
    asked = command("run", "--input", "-", "--output", tmp_path / "out", *HASHING)
    with subprocess.Popen(asked, env=env, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines(texts(20_000)))
        process.stdin.flush()
        done = piped(lines(ROWS), env, "run", "--input", "-", "--output", tmp_path / "out")
        assert done.returncode == OutputLockedError.exit_code, done.stderr
        process.stdin.close()
    assert process.returncode == 0
    assert len(ids(tmp_path / "out")) == 20_000


def test_verify_reads_no_pipe(tmp_path: Path, env: dict[str, str]) -> None:
    out = tmp_path / "out"
    assert piped(lines(ROWS), env, "run", "--input", "-", "--output", out).returncode == 0
    done = subprocess.run(command("verify", out, "--input", "-"), input=lines(ROWS), env=env, capture_output=True)
    assert done.returncode == UsageError.exit_code
    assert b"`plan` and `run` alone read standard input" in done.stderr
