"""The command line: help, refusals and exit codes, each as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import HASHING, embed_corpus, status, texts, write_jsonl, write_parquet


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "in.jsonl", texts(50))


def refused(code: int, *arguments: str | Path) -> str:
    """Run a command that must fail with `code` and one line on stderr; return the line."""
    done = embed_corpus(*arguments)
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("embed-corpus: ")
    return lines[0]


def test_help_names_every_command_and_exit_code() -> None:
    done = embed_corpus("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("plan", "run", "status", "verify", "search"))
    assert all(f"  {code}  " in done.stdout for code in range(8))


def test_plan_counts_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    done = embed_corpus("plan", "--input", source, "--output", tmp_path / "out", *HASHING, "--json")
    found = json.loads(done.stdout)
    assert (found["input_rows"], found["chunks"]) == (50, 1)
    assert found["tokens_low"] <= found["tokens"] <= found["tokens_high"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_plan_meets_the_tokens_of_the_run(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in/a.parquet", texts(2000))
    write_jsonl(tmp_path / "in/b.jsonl", texts(2000))
    planned = json.loads(embed_corpus("plan", "--input", tmp_path / "in", *HASHING, "--json").stdout)
    assert embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING).returncode == 0
    assert abs(planned["tokens"] / status(tmp_path / "out")["tokens"] - 1) < 0.1
    again = embed_corpus("plan", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING, "--json")
    assert json.loads(again.stdout)["chunks"] == 0


def test_a_dry_run_says_what_plan_says_and_changes_nothing(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run = ("run", "--input", source, "--output", output, *HASHING)
    for more in ((), ("--json",), ("--limit", "7", "--json")):
        said = embed_corpus(*run, "--dry-run", *more)
        plan = embed_corpus("plan", *run[1:], *more)
        assert (said.returncode, said.stdout, said.stderr) == (0, plan.stdout, plan.stderr)
        assert said.stdout.startswith("{" if more else "50 rows")
        assert not output.exists()
    assert embed_corpus(*run).returncode == 0
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    refused(5, *run, "--set", "corpus.text=id", "--dry-run")
    rebuilt = json.loads(embed_corpus(*run, "--set", "corpus.text=id", "--rebuild", "--dry-run", "--json").stdout)
    assert (rebuilt["input_rows"], rebuilt["chunks"]) == (50, 1)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_run_prints_the_object_of_its_status(source: Path, tmp_path: Path) -> None:
    run = ("run", "--input", source, "--output", tmp_path / "out", *HASHING, "--json")
    done = embed_corpus(*run)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout) == status(tmp_path / "out")
    assert (json.loads(done.stdout)["state"], json.loads(done.stdout)["embedded_now"]) == ("complete", 50)
    write_jsonl(source, [*texts(50), {"id": "x", "text": ""}])
    done = embed_corpus(*run, "--strict")
    assert done.returncode == 3
    assert json.loads(done.stdout) == status(tmp_path / "out")
    assert json.loads(done.stdout)["rejected_rows"] == 1
    assert "expected every row embedded (--strict)" in done.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--set", "model.dtpye=float32"), "unknown key model.dtpye; did you mean model.dtype?"),
        (("--set", "engine.max_num_seqs=many"), "engine.max_num_seqs"),
        (("--set", "run.chunk_tokens=-1"), "run.chunk_tokens expected int >= 0, found -1"),
        (("--set", "nonsense"), "expected table.key=value"),
        (("--config", "no/such.toml"), "no/such.toml: expected a readable TOML file"),
        (("--dim", "100"), "was trained for 384"),
        (("--dim", "385", "--allow-untrained-dim"), "expected 1 to 384"),
        (("--set", "corpus.text=body"), "expected column 'body', found id, text"),
        (("--set", "corpus.id=key"), "expected column 'key', found id, text"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    source: Path, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    error = refused(2, "run", "--input", source, "--output", tmp_path / "out", *HASHING, *more)
    assert words in error


def test_an_input_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.pdf").write_text("no shard")
    assert "found none" in refused(2, "run", "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert "found no such file or folder" in refused(2, "plan", "--input", tmp_path / "missing")


def test_a_wrong_flag_is_refused_in_one_line() -> None:
    assert "required: --input" in refused(2, "run", "--output", "b")
    assert "--output: expected once, found b and c" in refused(
        2, "run", "--input", "a", "--output", "b", "--output", "c"
    )


@pytest.mark.parametrize(
    ("setting", "words", "key"),
    [
        ("corpus.text=Text", "expected column 'Text', found id, text, kind; did you mean 'text'?", "corpus.text"),
        ("corpus.text={text} {boddy}", "expected column 'boddy', found id, text, kind", "corpus.text"),
        ("corpus.id=Kind", "expected column 'Kind', found id, text, kind; did you mean 'kind'?", "corpus.id"),
        ('corpus.keep=["knid"]', "expected column 'knid', found id, text, kind; did you mean 'kind'?", "corpus.keep"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_that_is_not_there_is_answered_with_its_own_key(
    tmp_path: Path, kind: str, setting: str, words: str, key: str
) -> None:
    rows = [{"id": "1", "text": "one two", "kind": "x"}]
    path = tmp_path / f"in.{kind}"
    path = write_jsonl(path, rows) if kind == "jsonl" else write_parquet(path, rows)
    error = refused(2, "plan", "--input", path, *HASHING, "--set", setting)
    assert words in error
    assert [name for name in ("corpus.text", "corpus.id", "corpus.keep") if name in error] == [key]
    assert "?." not in error


def test_a_file_that_is_broken_is_not_answered_with_a_key(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    error = refused(2, "plan", "--input", tmp_path / "broken.parquet", *HASHING)
    assert error.endswith(". Mend these, or try --skip-bad-files")


def test_files_that_cannot_be_used_are_all_named_or_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_jsonl(folder / "good.jsonl", texts(50))
    (folder / "broken.parquet").write_bytes(b"PAR1 not really")
    write_parquet(folder / "other.parquet", [{"body": "x"}])
    write_parquet(folder / "number.parquet", [{"text": 1}])
    run = ("run", "--input", folder, "--output", tmp_path / "out", *HASHING)
    error = refused(2, *run)
    assert all(name in error for name in ("broken.parquet", "other.parquet", "found body", "number.parquet", "int64"))
    done = embed_corpus(*run, "--skip-bad-files")
    assert done.returncode == 0, done.stderr
    found = status(tmp_path / "out")
    assert found["skipped_files"] == ["broken.parquet", "number.parquet", "other.parquet"]
    assert found["embedded_rows"] == 50


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    for command in (("status", tmp_path), ("verify", tmp_path), ("search", tmp_path, "x")):
        assert "expected a dataset" in refused(2, *command)


def test_status_and_plan_and_help_import_no_engine(source: Path, tmp_path: Path) -> None:
    assert embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING).returncode == 0
    poison = tmp_path / "poison"
    for name in ("vllm", "torch", "transformers", "sentence_transformers", "modal"):
        (poison / name).mkdir(parents=True)
        (poison / name / "__init__.py").write_text("raise SystemExit('imported')")
    for command in (("--help",), ("status", tmp_path / "out"), ("plan", "--input", source)):
        done = embed_corpus(*command, env={"PYTHONPATH": str(poison)})
        assert done.returncode == 0, done.stderr


def test_verify_names_the_damage_and_exits_6(source: Path, tmp_path: Path) -> None:
    assert embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING).returncode == 0
    part = next((tmp_path / "out/data").iterdir())
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    done = embed_corpus("verify", tmp_path / "out", "--json")
    assert done.returncode == 6
    assert {"kind": "checksum", "path": f"data/{part.name}"}.items() <= json.loads(done.stdout)["problems"][0].items()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in embed_corpus("status", tmp_path, "--debug").stderr


def test_a_closed_pipe_is_no_error(source: Path, tmp_path: Path) -> None:
    assert embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING).returncode == 0
    line = f"{sys.executable} -m pipeline status {tmp_path / 'out'} | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stderr == ""
