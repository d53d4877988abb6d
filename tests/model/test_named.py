"""A model by its name: the config that its own files give is the one that a person would write by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.config import Config, load_config
from pipeline.errors import ConfigError, EngineError
from pipeline.model.checkpoint import pin_and_check
from pipeline.model.files import locate
from pipeline.model.named import read_named
from pipeline.shipped import shipped_configs
from tests.support import REPOSITORY, embed_corpus, local_config
from tests.support.architectures import KINDS
from tests.support.checkpoints import change_config, write_config
from tests.support.hub import hub

BERT = {"dims": [64], "n_parameters": 85180, "flop_per_token": 134000, "licence": "mit", "attention": "bidirectional"}
# As a person writes them who reads the files; see tests/support/architectures.py.
BY_HAND: dict[str, dict[str, Any]] = {
    "bge": {**BERT, "pooling": "cls", "max_tokens": 128, "final_token": "[SEP]"},
    "e5": {
        **BERT,
        "pooling": "mean",
        "max_tokens": 96,
        "final_token": "[SEP]",
        "document_prompt": "passage: ",
        "query_prompt": "query: ",
    },
    # Of 130 positions, two are those of the padding token and before.
    "xlmr": {**BERT, "pooling": "mean", "max_tokens": 128, "final_token": "</s>", "n_parameters": 85310},
    "qwen3": {
        "pooling": "last",
        "attention": "causal",
        "final_token": "<|endoftext|>",
        "dims": [64],
        "max_tokens": 8192,  # the model takes 32,768
        "query_prompt": "instruct: find\nquery:",
        "n_parameters": 79810,
        "kv_bytes_per_token": 2 * 2 * 1 * 32 * 2,  # key and value, layers, heads, width of a head, bytes
        "flop_per_token": 148000,
        "licence": "apache-2.0",
    },
    "gemma3": {
        "pooling": "mean",
        "attention": "bidirectional",
        "final_token": "<eos>",
        "dims": [64],
        "max_tokens": 2048,
        "document_prompt": "title: none | text: ",
        "query_prompt": "task: search result | query: ",
        "n_parameters": 80060,
        "flop_per_token": 149000,
        "licence": "gemma",
    },
    "modernbert": {
        **BERT,
        "pooling": "cls",
        "final_token": "[SEP]",
        "max_tokens": 8192,
        "n_parameters": 87870,
        "flop_per_token": 164000,
        "licence": "apache-2.0",
    },
}


@pytest.fixture(scope="session")
def architectures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tiny checkpoints of the architectures of shipped models; copy one before changing it."""
    root = tmp_path_factory.mktemp("architectures")
    command = [sys.executable, "-m", "tests.support.architectures", str(root), *KINDS]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return root


@pytest.fixture
def copy(architectures: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copy a checkpoint, for changing."""
    return lambda name: Path(shutil.copytree(architectures / name, tmp_path / name))


def named(folder: Path | str, *overrides: str) -> Config:
    return read_named(str(folder), overrides, kind="vllm").config


def settings(folder: Path, file: str, **values: Any) -> None:
    """Set keys of a JSON file of a checkpoint; None takes one out."""
    path = folder / file
    table = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in table.items() if value is not None}))


@pytest.mark.parametrize("name", KINDS)
def test_what_init_writes_is_the_config_that_is_written_by_hand(
    architectures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = architectures / name
    tables = {
        "model": {"name": name, "revision": "main", "location": str(folder), "dtype": "auto", **BY_HAND[name]},
        "engine": {"kind": "vllm", "max_num_batched_tokens": 8192, "kv_cache_bytes": 1 << 28},
    }
    by_hand = pin_and_check(load_config(write_config(tmp_path / "hand.toml", tables)))
    assert main(["init", str(folder)]) == 0
    written = tmp_path / "init.toml"
    written.write_text(capsys.readouterr().out)
    assert load_config(written) == by_hand
    assert pin_and_check(named(folder)) == by_hand
    every = [line for line in written.read_text().splitlines() if " = " in line]
    assert [line for line in every if "  # " not in line] == []


def test_a_real_model_is_read_as_its_shipped_config_has_it() -> None:
    ours = local_config().model
    found = named(locate(ours)).model
    kept = (
        "pooling",
        "attention",
        "final_token",
        "normalized",
        "dims",
        "max_tokens",
        "document_prompt",
        "query_prompt",
    )
    assert {key: getattr(found, key) for key in kept} == {key: getattr(ours, key) for key in kept}
    assert abs(found.n_parameters / ours.n_parameters - 1) < 0.01
    assert abs(found.flop_per_token / ours.flop_per_token - 1) < 0.01
    assert found.licence == "apache-2.0"


def test_all_that_no_file_says_is_asked_for_at_once(copy: Callable[[str], Path]) -> None:
    folder = copy("bge")
    (folder / "modules.json").unlink()
    (folder / "README.md").write_text("Put the instruction before a query.\n")
    settings(folder, "tokenizer_config.json", model_max_length=None)
    change_config(folder, max_position_embeddings=None)
    asked = {
        "pooling": "cls",
        "max_tokens": "128",
        "document_prompt": "",
        "query_prompt": "find: ",
        "licence": "mit",
    }
    with pytest.raises(ConfigError) as refusal:
        named(folder)
    assert str(refusal.value).startswith(
        f"model {folder}: expected {', '.join(f'model.{key}' for key in asked)}, found in none of its files"
    )
    assert [f"--set model.{key}=" in str(refusal.value) for key in asked] == [True] * len(asked)
    assert "\n" not in str(refusal.value)
    given = [f"model.{key}={value}" for key, value in asked.items()]
    for left in range(len(given)):
        with pytest.raises(ConfigError, match=rf"expected model\.{[*asked][left]}, found"):
            named(folder, *given[:left], *given[left + 1 :])
    found = named(folder, *given).model
    assert {key: str(getattr(found, key)) for key in asked} == asked


def test_a_folder_without_weights_says_so(copy: Callable[[str], Path]) -> None:
    folder = copy("bge")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EngineError, match=r"expected weights as \.safetensors, found none"):
        named(folder)
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(EngineError, match=r"expected weights as \.safetensors, found"):
        named(folder)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("config.json", {"matryoshka_dimensions": [32, 16, 128]}),  # 128 is more than the model has
        ("README.md", 'losses:\n```json\n{"matryoshka_dims": [\n 64,\n 32,\n 16\n]}\n```'),
    ],
)
def test_trained_widths_are_those_that_a_file_says(copy: Callable[[str], Path], file: str, said: Any) -> None:
    folder = copy("bge")
    if isinstance(said, dict):
        settings(folder, file, **said)
    else:
        (folder / file).write_text(f"---\nlicense: mit\n---\n{said}\n")
    found = read_named(str(folder), kind="vllm")
    assert found.config.model.dims == (64, 32, 16)
    assert found.sources["dims"] == file


def test_limits_prompts_and_licences_in_the_other_forms_that_they_have(copy: Callable[[str], Path]) -> None:
    folder = copy("e5")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    settings(folder, "config_sentence_transformers.json", prompts={"query": "q: "})
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: ours\n---\n\nGive the prompt.\n")
    found = named(folder).model
    assert (found.max_tokens, found.document_prompt, found.query_prompt, found.licence) == (64, "", "q: ", "ours")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 4096}')  # more than the model has positions
    assert named(folder).model.max_tokens == 128


def test_what_is_given_wins_and_the_guard_still_looks(architectures: Path) -> None:
    config = named(architectures / "qwen3", "model.max_tokens=16384", "engine.kind=sentence-transformers", "run.dim=64")
    assert (config.model.max_tokens, config.engine.max_num_batched_tokens) == (16384, 16384)
    assert config.engine.kind == "sentence-transformers"
    with pytest.raises(ConfigError, match=r"model\.pooling is 'mean', the checkpoint says 'last'"):
        pin_and_check(named(architectures / "qwen3", "model.pooling=mean"))
    with pytest.raises(ConfigError, match=r"unknown key model\.poling; did you mean model\.pooling"):
        named(architectures / "qwen3", "model.poling=mean")


def test_a_shipped_model_is_taken_with_its_shipped_config() -> None:
    config = named("INTFLOAT/e5-small-v2")
    assert config == load_config(shipped_configs()["e5-small-v2"])
    assert named("intfloat/e5-small-v2", "model.dtype=float32").model.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hashing", "found the name of a config; say --config hashing"),
        ("./none", "expected a folder with the model, or a name of the hub, found neither"),
    ],
)
def test_what_is_no_model_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        named(name)


def test_a_model_of_the_hub_is_resolved_once_and_counted_without_its_weights(
    architectures: Path, tmp_path: Path
) -> None:
    folder, name = architectures / "e5", "tests/e5"
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with hub(name) as server:
        commit = server.commit("main", files)
        env = server.environment(tmp_path / "home")
        done = embed_corpus("init", name, env=env)
        assert done.returncode == 0, done.stderr
        asked = [request for request in server.requests if "/revision/" in request]
        heads = [request for request in server.requests if request.endswith("/model.safetensors bytes=0-100000")]
    assert f'revision = "{commit}"  # main of the hub, as it is now' in done.stdout
    assert len(asked) == 1
    assert len(heads) == 1
    (tmp_path / "init.toml").write_text(done.stdout)
    of_hub, of_folder = load_config(tmp_path / "init.toml").model, named(folder).model
    same = set(BY_HAND["e5"]) | {"normalized", "dtype"}
    assert {key: getattr(of_hub, key) for key in same} == {key: getattr(of_folder, key) for key in same}
    assert (of_hub.name, of_hub.location) == (name, "")


def test_a_model_of_the_hub_without_safetensors_says_so(tmp_path: Path, architectures: Path) -> None:
    folder, name = architectures / "bge", "tests/bge"
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    with hub(name) as server:
        server.commit("main", files)
        done = embed_corpus("init", name, env=server.environment(tmp_path / "home"))
    assert done.returncode == 1
    assert "expected weights as .safetensors, found none; another revision may have them" in done.stderr
