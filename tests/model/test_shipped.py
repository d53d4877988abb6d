"""The shipped configs: each loads, is found by its names, and passes the guard on a checkpoint of its architecture."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import commands
from pipeline.cli import main
from pipeline.config import ENGINES, Config, load_config
from pipeline.errors import ConfigError
from pipeline.model.checkpoint import pin_and_check
from pipeline.model.named import read_named
from pipeline.shipped import CONFIGS, find_config, shipped_configs
from tests.support import REPOSITORY
from tests.support.architectures import WIDTH

NAMES = sorted(path.stem for path in (REPOSITORY / "configs").glob("*.toml") if path.stem != "cron")
# The tiny checkpoint of the same architecture; that of KaLM is in test_checkpoint.py.
LIKE = {
    "bge-m3": "xlmr",
    "bge-small-en-v1.5": "bge",
    "e5-small-v2": "e5",
    "embeddinggemma-300m": "gemma3",
    "gte-modernbert-base": "modernbert",
    "local": "e5",
    "multilingual-e5-large": "xlmr",
    "multilingual-e5-large-instruct": "xlmr",
    "qwen3-embedding-0.6b": "qwen3",
    "qwen3-embedding-4b": "qwen3",
    "qwen3-embedding-8b": "qwen3",
    "snowflake-arctic-embed-l-v2.0": "xlmr",
}


@pytest.fixture(scope="module")
def checkpoints_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tiny checkpoints by the name of their architecture; copy one before changing it."""
    root = tmp_path_factory.mktemp("architectures")
    command = [sys.executable, "-m", "tests.support.architectures", str(root), *sorted(set(LIKE.values()))]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return root


def test_every_file_is_listed_and_ten_are_of_models_that_people_use() -> None:
    assert [*shipped_configs()] == [path.stem for path in sorted(CONFIGS.glob("*.toml")) if path.stem != "cron"]
    assert sorted(shipped_configs()) == NAMES
    assert {*LIKE, "kalm-gemma3-12b", "hashing"} == {*NAMES}
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_found_by_its_name_and_by_that_of_its_model(name: str) -> None:
    config = load_config(find_config(name))
    assert config == load_config(REPOSITORY / f"configs/{name}.toml")
    if ENGINES[config.engine.kind].needs_weights:
        assert read_named(config.model.name, kind="vllm").config == config
        assert config.model.golden == (
            "configs/golden/all-minilm-l6-v2.json" if name == "local" else f"configs/golden/{name}.json"
        )
    assert config.model.dims[0] == max(config.model.dims)
    assert config.engine.max_num_batched_tokens >= config.model.max_tokens


def like(config: Config, folder: Path) -> Config:
    """Return a config for the weights of another folder; what it says of their use stays."""
    model = replace(
        config.model,
        name=folder.name,
        location=str(folder),
        revision="main",
        dtype="float32",
        dims=(WIDTH,),
        max_tokens=64,
        kv_bytes_per_token=0,
    )
    return replace(config, model=model)


@pytest.mark.parametrize("name", LIKE)
def test_the_guard_passes_what_a_config_says_of_its_architecture_and_refuses_another_pooling(
    checkpoints_of: Path, tmp_path: Path, name: str
) -> None:
    config, folder = load_config(find_config(name)), Path(shutil.copytree(checkpoints_of / LIKE[name], tmp_path / "m"))
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": pooling_mode(config.model.pooling)}))
    if not config.model.normalized:
        modules = json.loads((folder / "modules.json").read_text())
        (folder / "modules.json").write_text(json.dumps([m for m in modules if not m["type"].endswith("Normalize")]))
    if not config.model.document_prompt:
        (folder / "config_sentence_transformers.json").write_text("{}")
    pin_and_check(like(config, folder))
    other = "mean" if config.model.pooling != "mean" else "cls"
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": other}))
    with pytest.raises(ConfigError, match=r"model\.pooling is"):
        pin_and_check(like(config, folder))


def pooling_mode(pooling: str) -> str:
    return "lasttoken" if pooling == "last" else pooling


def test_models_lists_them_in_words_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*shipped_configs()]
    assert main(["models", "--json"]) == 0
    found = {each["config"]: each for each in json.loads(capsys.readouterr().out)}
    assert [*found] == [*shipped_configs()]
    assert found["qwen3-embedding-4b"]["model"] == "Qwen/Qwen3-Embedding-4B"
    assert found["qwen3-embedding-4b"]["dims"][:2] == [2560, 2048]


def test_init_of_a_shipped_config_prints_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    for asked in ("bge-small-en-v1.5", "BAAI/bge-small-en-v1.5"):
        assert main(["init", asked]) == 0
        assert capsys.readouterr().out == (CONFIGS / "bge-small-en-v1.5.toml").read_text()
    assert main(["init", "local", "--set", "run.dim=7"]) == 2
    assert "expected no --set for a config that is shipped" in capsys.readouterr().err


def test_no_command_has_the_name_of_a_file_that_would_take_its_place() -> None:
    files = {path.stem for path in (REPOSITORY / "pipeline/commands").glob("*.py")}
    assert not files & set(commands.__all__)


def test_a_path_goes_before_a_name_and_a_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    assert find_config("local") == CONFIGS / "local.toml"
    (tmp_path / "hashing").write_text("")
    assert find_config("hashing") == Path("hashing")
    assert find_config("configs/hashing.toml") == CONFIGS / "hashing.toml"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/hashing.toml").write_text("")
    assert find_config("configs/hashing.toml") == Path("configs/hashing.toml")
