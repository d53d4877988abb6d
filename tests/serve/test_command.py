"""The server is started with what the batch engine is started with, and without its key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.engines.vllm import SPIN_COUNT, engine_arguments, pooler_arguments, vllm_environment
from pipeline.errors import UsageError
from pipeline.serve.middleware import LEAST_KEY_LENGTH, read_key
from pipeline.serve.server import server_command, server_environment
from tests.support import REPOSITORY, embed_corpus

CONFIGS = [load_config(REPOSITORY / f"configs/{name}.toml") for name in ("local", "kalm-gemma3-12b")]
KEY = "sk-0123456789"

# What the installed vLLM makes of command lines; whatever is no plain value becomes the values that were given for it.
PARSED = """
import dataclasses, json, sys
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
for command in json.loads(sys.argv[1]):
    parsed = vars(EngineArgs.from_cli_args(parser.parse_args(command[3:])))
    print(json.dumps(parsed, default=lambda value: vars(value) if dataclasses.is_dataclass(value) else None))
"""


def test_the_server_gets_every_argument_of_the_batch_engine() -> None:
    commands = [server_command(config, Path("/model")) for config in CONFIGS]
    done = subprocess.run([sys.executable, "-c", PARSED, json.dumps(commands)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for config, line in zip(CONFIGS, done.stdout.splitlines()[-2:], strict=True):
        parsed = json.loads(line)
        assert engine_arguments(config).items() <= parsed.items()
        assert pooler_arguments(config).items() <= parsed["pooler_config"].items()
        assert parsed["model"] == "/model"
        assert parsed["allowed_media_domains"] == ["none.invalid"]
        assert parsed["hf_overrides"]["matryoshka_dimensions"] == list(config.model.dims)


def test_neither_command_nor_environment_holds_the_key() -> None:
    variables = server_environment(CONFIGS[0], KEY, {"VLLM_API_KEY": KEY, "PYTHONPATH": "/theirs"}, listener=3)
    command = server_command(CONFIGS[0], Path("/model"))
    assert KEY not in json.dumps([command, variables])
    assert variables["PYTHONPATH"] == f"{REPOSITORY}:/theirs"


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_threads_wait_as_the_user_says(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert vllm_environment()["GOMP_SPINCOUNT"] == str(SPIN_COUNT)
    monkeypatch.setenv(name, "7")
    assert "GOMP_SPINCOUNT" not in vllm_environment()


def test_a_short_key_is_refused_and_one_that_others_may_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    file.write_text("k" * (LEAST_KEY_LENGTH - 1))
    with pytest.raises(UsageError, match="expected a key of 12 characters or more, found 11"):
        read_key(file, {})
    file.write_text(KEY)
    others = f"key file {file}: others on this machine may read it"
    for mode, words in ((0o644, others), (0o640, others), (0o604, others), (0o600, "")):
        file.chmod(mode)
        read_key(file, {})
        said = capsys.readouterr().err
        assert words in said
        assert bool(said) == bool(words)
        assert KEY not in said


def test_a_key_comes_from_the_file_or_else_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(file, {"VLLM_API_KEY": "other"}) == KEY
    assert read_key(None, {"VLLM_API_KEY": KEY}) == KEY


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"two\nlines", "schl\u00fcssel".encode(), b"\xff\xfe"])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_key(file, {})
    assert str(file) in str(refused.value)
    assert not content.strip() or content.strip() not in str(refused.value).encode()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "variable VLLM_API_KEY: expected a key, found none; give one with --api-key-file or say --no-auth"),
        (("--api-key-file", "no/such"), "expected a readable file with the key, found No such file"),
        (("--no-auth", "--set", "engine.kind=hashing"), "expected engine.kind vllm, found hashing"),
        (("--no-auth", "--host", "203.0.113.1"), "expected an address to listen on, found 203.0.113.1 port 8000"),
        (("--no-auth", "--host", ""), "expected an address to listen on, found an empty host port 8000"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once(arguments: tuple[str, ...], words: str) -> None:
    done = embed_corpus("serve", *arguments, env={"VLLM_API_KEY": ""})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert words in done.stderr
