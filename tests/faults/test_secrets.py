"""Secrets stay where they are: not in what is said, and not in what is written."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import HASHING, REPOSITORY, embed_corpus, texts, write_jsonl

SECRETS = {
    "HF_TOKEN": "hf_aaaabbbbccccdddd",
    "MODAL_TOKEN_ID": "ak-eeeeffffgggghhhh",
    "MODAL_TOKEN_SECRET": "as-iiiijjjjkkkkllll",
    "AWS_SECRET_ACCESS_KEY": "mmmmnnnnoooopppp",
}
HUB = ("--set", 'model.location=""', "--set", "model.name=no/such-model", "--set", "model.revision=main")
EXECUTES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve", "runpy", "code", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}


@pytest.mark.parametrize("debug", [pytest.param((), marks=pytest.mark.slow), ("--debug",)], ids=["", "debug"])
def test_no_secret_of_the_environment_is_said_or_written(tmp_path: Path, debug: Sequence[str]) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [*texts(20), {"text": None}])
    (tmp_path / "in/b.parquet").write_bytes(b"PAR1")
    run: tuple[str | Path, ...] = ("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *debug)
    env = {**SECRETS, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_ETAG_TIMEOUT": "1"}
    bad_token = {**env, "HF_TOKEN": f"{SECRETS['HF_TOKEN']}\nx"}
    said = ""
    steps: list[tuple[int, tuple[str | Path, ...], dict[str, str]]] = [
        (2, (*run, *HASHING), env),
        (0, (*run, *HASHING, "--skip-bad-files"), env),
        (0, ("status", tmp_path / "out"), env),
        (3, ("verify", tmp_path / "out", "--input", tmp_path / "in"), env),
        (1, ("run", "--input", tmp_path / "in/a.jsonl", "--output", tmp_path / "hub", *debug, *HUB), env),
        (1, ("run", "--input", tmp_path / "in/a.jsonl", "--output", tmp_path / "hub", *debug, *HUB), bad_token),
    ]
    for code, arguments, around in steps:
        done = embed_corpus(*arguments, env=around)
        assert done.returncode == code, done.stderr
        said += done.stdout + done.stderr
    assert "no/such-model" in said
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in SECRETS.values():
        assert secret not in said
        assert secret.encode() not in written


@pytest.mark.parametrize("path", sorted((REPOSITORY / "pipeline").rglob("*.py")), ids=lambda path: path.stem)
def test_the_pipeline_has_nothing_that_runs_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            assert not {name.split(".")[0] for name in names} & EXECUTES
        elif isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in CALLS)
            assert not ast.unparse(node.func).endswith(("torch.load", "np.load", "numpy.load", "read_pickle"))
            assert not {keyword.arg for keyword in node.keywords} & {"allow_pickle", "shell"}
