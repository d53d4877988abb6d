"""Weights come from the hub: a branch is resolved once, files are what the hub says, and a run never mixes commits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from pipeline.model import hub as model_hub
from tests.support import REPOSITORY, embed_corpus, status, texts, write_jsonl
from tests.support.checkpoints import model_tables, write_config
from tests.support.hub import Hub, hub

NAME = "tests/gemma"
READ = 10 << 20  # bytes that the client reads before it writes them
LOCATE = """
import sys
from pathlib import Path
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.model.files import locate, pinned
try:
    model = pinned(load_config(Path(sys.argv[1])).model)
    print(model.revision, locate(model))
except PipelineError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub(NAME) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_hub_config(tmp_path, Path("gemma"))


def write_hub_config(tmp_path: Path, checkpoint: Path, **engine: Any) -> Path:
    tables = model_tables(checkpoint, name=NAME, location="", revision="CausalLM", golden="")
    tables["engine"] |= engine
    return write_config(tmp_path / "hub.toml", tables)


def files(**more: bytes) -> dict[str, bytes]:
    return {
        "config.json": b"{}",
        "tokenizer.json": b"{ }",
        "README.md": b"# read me",
        "model.safetensors": bytes(range(256)) * 16,
        "onnx/model.onnx": b"the same again",
        "onnx/config.json": b"{}",
        "pytorch_model.bin": b"and again",
        **more,
    }


def locate(config: Path, server: Hub, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Locate the model in a process of its own; it prints the commit and the folder, or one line of why not."""
    return subprocess.run(
        [sys.executable, "-c", LOCATE, config],
        cwd=REPOSITORY,
        env={**os.environ, **server.environment(home, **env)},
        capture_output=True,
        text=True,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a refusal; what the client logs or draws besides is not ours."""
    assert done.returncode == 1, done.stdout
    [line] = [line for line in done.stderr.splitlines() if line.startswith("model ")]
    return line


def test_a_branch_becomes_a_commit_and_only_what_an_engine_needs_is_fetched(
    server: Hub, config: Path, tmp_path: Path
) -> None:
    commit = server.commit("CausalLM", files())
    done = locate(config, server, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    revision, folder = done.stdout.split()
    assert revision == commit
    assert sorted(path.name for path in Path(folder).iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert "100%" in done.stderr  # progress

    # What is here is not asked for again, and without the hub it is found all the same.
    n_downloads = len(server.downloads())
    again = locate(config, server, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert again.stdout == done.stdout
    assert len(server.downloads()) == n_downloads


def test_a_transfer_that_breaks_goes_on_where_it_broke(server: Hub, config: Path, tmp_path: Path) -> None:
    server.commit("CausalLM", files() | {"model.safetensors": bytes(range(256)) * (READ // 100)})
    server.break_after = 2 * READ + 1
    done = locate(config, server, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    weights = [path for path in server.downloads() if path.startswith("model.safetensors")]
    assert weights == ["model.safetensors", f"model.safetensors bytes={2 * READ}-"]


def test_a_download_that_died_goes_on_with_the_files_it_lacks(server: Hub, config: Path, tmp_path: Path) -> None:
    server.commit("CausalLM", files())
    done = locate(config, server, tmp_path / "home")
    (Path(done.stdout.split()[1]) / "tokenizer.json").resolve().unlink()
    (Path(done.stdout.split()[1]) / "tokenizer.json").unlink()
    server.requests.clear()
    assert locate(config, server, tmp_path / "home").returncode == 0
    assert server.downloads() == ["tokenizer.json"]


@pytest.mark.parametrize(
    ("path", "algorithm"),
    [("model.safetensors", "sha256"), pytest.param("config.json", "git-sha1", marks=pytest.mark.slow)],
)
def test_a_file_with_another_hash_is_refused_and_fetched_anew(
    server: Hub, config: Path, tmp_path: Path, path: str, algorithm: str
) -> None:
    server.commit("CausalLM", files())
    server.corrupt = path
    line = said(locate(config, server, tmp_path / "home"))
    assert re.search(rf"expected {path} with {algorithm} (\w+), found (?!\1)\w+; removed it", line), line
    server.corrupt = ""
    assert locate(config, server, tmp_path / "home").returncode == 0
    assert server.downloads().count(path) == 2


def test_files_that_were_there_are_verified_once_when_that_is_asked_for(
    server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A hash of 24 GB takes minutes of a core; a download has been held against them by itself."""
    calls: list[str] = []
    monkeypatch.setattr(model_hub, "verify", lambda name, commit: calls.append(commit))
    there: list[bool] = [False]

    def snapshot(name: str, commit: str, files: object, *, local: bool = False) -> Path:
        if local and not there[0]:
            raise LocalEntryNotFoundError("not there")
        there[0] = True
        return tmp_path

    monkeypatch.setattr(model_hub, "_snapshot", snapshot)
    for verified, n_calls in ((True, 1), (False, 1), (True, 2)):
        assert model_hub.fetch(NAME, "c" * 40, ["*"], verified=verified) == tmp_path
        assert len(calls) == n_calls


def test_a_gated_model_is_one_line_that_says_what_to_do(server: Hub, config: Path, tmp_path: Path) -> None:
    server.commit("CausalLM", files())
    server.token = "hf_secret"
    line = said(locate(config, server, tmp_path / "home"))
    assert line.startswith(f"model {NAME}: gated; expected the token of an account with access in HF_TOKEN, found none")
    assert f"https://huggingface.co/{NAME}" in line
    assert "found one without access" in said(locate(config, server, tmp_path / "home", HF_TOKEN="hf_other"))
    assert locate(config, server, tmp_path / "home", HF_TOKEN="hf_secret").returncode == 0


def test_what_the_hub_does_not_have_is_one_line(server: Hub, config: Path, tmp_path: Path) -> None:
    server.commit("main", files())
    assert "expected a revision of the hub, found CausalLM" in said(locate(config, server, tmp_path / "home"))
    server.name = "other"
    config.write_text(config.read_text().replace(NAME, "tests/none"))
    assert "found none of that name" in said(locate(config, server, tmp_path / "home"))
    offline = said(locate(config, server, tmp_path / "home", HF_HUB_OFFLINE="1"))
    assert "not on this machine" in offline
    assert "download_weights" in offline


def test_a_dataset_records_the_commit_and_never_mixes_two(server: Hub, checkpoints: Path, tmp_path: Path) -> None:
    content = {path.name: path.read_bytes() for path in (checkpoints / "causal-lm").iterdir()}
    first = server.commit("CausalLM", content)
    config = write_hub_config(tmp_path, checkpoints / "causal-lm", kind="sentence-transformers")
    source = write_jsonl(tmp_path / "in.jsonl", texts(5))
    env = server.environment(tmp_path / "home")
    command = ("run", "--input", source, "--output", tmp_path / "out", "--config", config)
    done = embed_corpus(*command, env=env)
    assert done.returncode == 0, done.stderr
    assert status(tmp_path / "out")["revision"] == first
    [part] = (tmp_path / "out/data").glob("*.parquet")
    footer = pq.read_metadata(part).metadata
    assert first.encode() in b"".join(footer.values())
    assert (
        json.loads((tmp_path / "out/manifest.jsonl").read_text().splitlines()[0])["recipe"]["model.revision"] == first
    )

    second = server.commit("CausalLM", content | {"README.md": b"moved"})
    moved = embed_corpus(*command, env=env)
    assert moved.returncode == 5
    assert f'model.revision is "{first}", asked for "{second}"' in moved.stderr
    assert not any(second in request and "safetensors" in request for request in server.requests)
    pinned = embed_corpus(*command, "--set", f"model.revision={first}", env=env)
    assert pinned.returncode == 0, pinned.stderr
    assert "this run embedded 0 texts" in pinned.stdout
