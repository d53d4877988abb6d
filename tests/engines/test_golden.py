"""The golden check: an engine whose vectors are not those of the reference is not used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.cli import main
from pipeline.config import Config, parse_config
from pipeline.engines import make_embedder
from pipeline.engines.golden import check_golden, read_golden
from pipeline.errors import ConfigError, EngineError
from pipeline.model.checkpoint import pin_and_check
from tests.support import REPOSITORY, embed_corpus, local_config
from tests.support.checkpoints import DIMS, change_config, model_tables, write_config, write_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and transformers, about themselves
PROMPTS = {"document_prompt": "passage: ", "query_prompt": "query: "}


def config_of(folder: Path, golden: Path, **model: Any) -> Config:
    """Return a config for the reference's own engine, which loads in a second."""
    tables = model_tables(folder, **{"golden": str(golden), **PROMPTS, **model})
    tables["engine"]["kind"] = "sentence-transformers"
    return parse_config(tables, where="tests")


@pytest.fixture(scope="module")
def golden(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the golden file of a bidirectional checkpoint without modules: what it pools stands in the config."""
    folder = tmp_path_factory.mktemp("golden")
    tables = model_tables(checkpoints / "bidirectional-text", golden=str(folder / "golden.json"), **PROMPTS)
    assert main(["golden", "--config", str(write_config(folder / "tiny.toml", tables))]) == 0
    return folder / "golden.json"


@pytest.fixture
def copy(checkpoints: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints / "bidirectional-text", tmp_path / "copy"))


def caught(config: Config, *said: str) -> None:
    with pytest.raises(EngineError, match="expected a cosine of at least") as refusal:
        make_embedder(pin_and_check(config))
    assert all(text in str(refusal.value) for text in said), refusal.value


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_right_engine_passes(checkpoints: Path, golden: Path, dtype: str) -> None:
    make_embedder(pin_and_check(config_of(checkpoints / "bidirectional-text", golden, dtype=dtype)))


def test_wrong_attention_is_caught(copy: Path, golden: Path) -> None:
    change_config(copy, use_bidirectional_attention=None)
    caught(config_of(copy, golden))


def test_another_pooling_is_caught(copy: Path, golden: Path) -> None:
    caught(config_of(copy, golden, pooling="mean"))


def test_a_final_token_that_is_cut_off_is_caught(copy: Path, golden: Path) -> None:
    write_tokenizer(copy, final=False)
    caught(config_of(copy, golden, final_token=""))


def test_another_revision_is_caught_with_both_hashes(copy: Path, golden: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    torch.manual_seed(1)
    tensors["layers.3.mlp.up_proj.weight"] = torch.randn_like(tensors["layers.3.mlp.up_proj.weight"]) * 0.05
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    revision = pin_and_check(config_of(copy, golden)).model.revision
    caught(config_of(copy, golden), revision, read_golden(golden).revision)


@pytest.mark.parametrize("key", PROMPTS)
def test_a_missing_prompt_is_caught(checkpoints: Path, golden: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{key} is ''.*'{PROMPTS[key]}'"):
        make_embedder(pin_and_check(config_of(checkpoints / "bidirectional-text", golden, **{key: ""})))


def reference(golden: Path) -> NDArray[np.float32]:
    return np.array(read_golden(golden).vectors, np.float32)


def test_vectors_that_are_not_finite_are_caught(checkpoints: Path, golden: Path) -> None:
    config = config_of(checkpoints / "bidirectional-text", golden)
    vectors = reference(golden)
    check_golden(config, lambda ids: vectors * 3)
    vectors[2] = np.nan
    with pytest.raises(EngineError, match="found nan"):
        check_golden(config, lambda ids: vectors)


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.9999), ("bfloat16", 0.995), ("float16", 0.995)])
def test_a_vector_passes_down_to_the_cosine_of_its_dtype_and_no_further(
    checkpoints: Path, golden: Path, dtype: str, least: float
) -> None:
    """bfloat16 is what production computes in; what one text's vector has besides is at right angles to it."""
    config = config_of(checkpoints / "bidirectional-text", golden, dtype=dtype)
    vectors = reference(golden)
    unit = vectors[2] / np.linalg.norm(vectors[2])
    aside = np.roll(unit, 1) - unit * (np.roll(unit, 1) @ unit)
    aside /= np.linalg.norm(aside)

    def turned(cosine: float) -> NDArray[np.float32]:
        found = vectors.copy()
        found[2] = cosine * unit + np.sqrt(1 - cosine**2) * aside
        return found

    margin = (1 - least) / 10
    check_golden(config, lambda ids: turned(least + margin))
    with pytest.raises(EngineError, match=f"expected a cosine of at least {least}"):
        check_golden(config, lambda ids: turned(least - margin))


def test_another_prompt_is_a_choice_and_told_of(
    checkpoints: Path, golden: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_of(checkpoints / "bidirectional-text", golden, document_prompt="title: ")
    check_golden(config, lambda ids: reference(golden))
    assert "model.document_prompt is 'title: ', not 'passage: '" in capfd.readouterr().err


def test_a_text_longer_than_the_engine_takes_is_left_out(checkpoints: Path, golden: Path) -> None:
    config = config_of(checkpoints / "bidirectional-text", golden, max_tokens=90)
    seen: list[int] = []

    def some(ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        seen.append(len(ids))
        return reference(golden)[[0, 1, 3, 4, 6, 7]]

    check_golden(config, some)
    assert seen == [6]  # of eight, the ones of at most 90 tokens


def test_a_model_without_a_golden_file_is_one_line_that_names_the_command(
    checkpoints: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_of(checkpoints / "bidirectional-text", tmp_path / "none.json")
    for without in (config, replace(config, model=replace(config.model, golden=""))):
        check_golden(without, lambda ids: np.zeros((len(ids), DIMS[0]), np.float32))
        [line] = capfd.readouterr().err.splitlines()
        assert "no reference vectors of tests/bidirectional-text" in line
        assert "`embed-corpus golden`" in line


def test_a_file_that_is_no_golden_file_is_named(checkpoints: Path, tmp_path: Path) -> None:
    path = tmp_path / "torn.json"
    path.write_text('{"model": "x"')
    with pytest.raises(EngineError, match=r"torn\.json: expected a golden file"):
        check_golden(
            config_of(checkpoints / "bidirectional-text", path), lambda ids: np.zeros((len(ids), 4), np.float32)
        )


@pytest.mark.slow
def test_the_command_makes_the_file_that_lies_in_the_repository(tmp_path: Path) -> None:
    path = tmp_path / "minilm.json"
    done = embed_corpus("golden", "--set", f"model.golden={path}")
    assert done.returncode == 0, done.stderr
    assert "8 vectors of sentence-transformers/all-MiniLM-L6-v2@sha256:53aa" in done.stdout
    made, kept = (json.loads(file.read_text()) for file in (path, REPOSITORY / load_local().model.golden))
    assert made.keys() == kept.keys()
    np.testing.assert_allclose(made.pop("vectors"), kept.pop("vectors"), atol=1e-4)
    assert {**made, "reference": ""} == {**kept, "reference": ""}


def load_local() -> Config:
    return local_config()


def test_the_command_needs_to_know_where_to() -> None:
    done = embed_corpus("golden", "--set", "model.golden=")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "model.golden: expected a file to write" in done.stderr
