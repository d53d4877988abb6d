"""The guard: each setting that an engine would take without a word, and that gives other vectors, is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config, parse_config
from pipeline.errors import ConfigError
from pipeline.model.checkpoint import open_checkpoint, pin_and_check, read_checkpoint
from pipeline.model.files import locate
from pipeline.model.tokens import make_tokenizer
from tests.support import embed_corpus, local_config, write_jsonl
from tests.support.checkpoints import DIMS, FINAL_TOKEN, change_config, model_tables, write_modules, write_tokenizer

LOCAL = local_config()


@pytest.fixture
def copy(checkpoints: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copy a checkpoint, for changing."""
    return lambda name: Path(shutil.copytree(checkpoints / name, tmp_path / name))


def config_of(folder: Path, **model: Any) -> Config:
    return parse_config(model_tables(folder, **model), where="tests")


def refused(folder: Path, *said: str, **model: Any) -> None:
    """Expect a refusal, by what runs before an engine as by what loads one, that says all of `said`."""
    for guarded in (pin_and_check, open_checkpoint):
        with pytest.raises(ConfigError) as refusal:
            guarded(config_of(folder, **model))
        assert all(text in str(refusal.value) for text in said), refusal.value


@pytest.mark.parametrize("name", ["causal-lm", "causal-text", "causal-st", "bidirectional-text"])
def test_a_right_config_passes(checkpoints: Path, name: str) -> None:
    attention = name.partition("-")[0]
    open_checkpoint(pin_and_check(config_of(checkpoints / name, attention=attention)))


def test_the_guard_reads_a_real_checkpoint() -> None:
    found = read_checkpoint(locate(LOCAL.model))
    assert (found.pooling, found.normalized, found.attention) == ("mean", True, "bidirectional")
    assert (found.width, found.final_token, found.kv_bytes_per_token) == (384, "[SEP]", 0)


def test_another_pooling_is_refused(checkpoints: Path) -> None:
    refused(checkpoints / "causal-st", "model.pooling is 'mean'", "'last'", pooling="mean")


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ({"pooling_mode": "mean"}, "'mean'"),  # as sentence-transformers writes since 5
        ({"pooling_mode_weightedmean_tokens": True}, "'pooling_mode_weightedmean_tokens'"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "mean_tokens+pooling_mode_cls"),
    ],
)
def test_a_pooling_that_the_checkpoint_writes_otherwise_is_understood(
    copy: Callable[[str], Path], says: dict[str, Any], found: str
) -> None:
    folder = copy("causal-st")
    (folder / "1_Pooling/config.json").write_text(json.dumps(says))
    refused(folder, "model.pooling is 'last'", found)


def test_bidirectional_weights_saved_as_a_causal_architecture_are_refused(checkpoints: Path) -> None:
    refused(checkpoints / "bidirectional-lm", "causal as vLLM loads Gemma3ForCausalLM", "'bidirectional'", "0.8")


def test_attention_other_than_in_the_config_is_refused(checkpoints: Path) -> None:
    refused(checkpoints / "bidirectional-text", "model.attention is 'causal'", "'bidirectional'", attention="causal")
    refused(checkpoints / "causal-text", "is 'bidirectional'", "'causal'", attention="bidirectional")


def test_is_causal_is_obeyed_where_vllm_obeys_it(copy: Callable[[str], Path]) -> None:
    folder = copy("causal-lm")
    change_config(folder, is_causal=False, use_bidirectional_attention=None)
    open_checkpoint(config_of(folder, attention="bidirectional"))
    change_config(folder, architectures=["OlmoForCausalLM"])
    refused(folder, "causal as vLLM loads OlmoForCausalLM")


def test_float16_is_refused(checkpoints: Path, copy: Callable[[str], Path]) -> None:
    refused(checkpoints / "causal-lm", "model.dtype is 'float16'", "'float32'", "overflow", dtype="float16")
    folder = copy("causal-text")
    change_config(folder, model_type="llama", dtype="bfloat16")
    refused(folder, "model.dtype is 'float16'", "'bfloat16'", dtype="float16")


def test_a_final_token_that_is_cut_off_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("causal-lm")
    write_tokenizer(folder, final=False)
    refused(folder, "model.final_token is '<eos>'", "says ''")
    write_tokenizer(folder, final=False, add_eos_token=True)  # transformers would put it there, tokenizer.json does not
    refused(folder, "model.final_token is '<eos>'", "says ''", final_token="")


def test_a_text_that_is_cut_keeps_its_final_token(checkpoints: Path) -> None:
    config = config_of(checkpoints / "causal-lm")
    tokenizer = make_tokenizer(config, max_tokens=8)
    window = tokenizer.windows(["a text that does not fit into eight tokens"])[0][0]
    assert (len(window.ids), window.ids[-1]) == (8, 1)
    assert read_checkpoint(checkpoints / "causal-lm").final_token == FINAL_TOKEN


def test_a_missing_prompt_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("causal-st")
    settings = {"prompts": {"query": "find: ", "document": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    refused(folder, "model.document_prompt is ''", "'passage: '")
    open_checkpoint(config_of(folder, document_prompt="passage: "))


def test_vectors_that_have_no_unit_length_of_their_own_are_refused_unless_said_so(
    checkpoints: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints / "causal-lm", tmp_path / "dot"))
    write_modules(folder, modules=["Transformer", "Pooling"])
    refused(folder, "model.normalized is True", "False", "dot product")
    open_checkpoint(config_of(folder, normalized=False))


def test_a_module_that_no_engine_applies_is_refused(checkpoints: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints / "causal-lm", tmp_path / "lstm"))
    write_modules(folder, modules=["Transformer", "Pooling", "LSTM", "Normalize"])
    refused(folder, "['LSTM']")


def test_another_width_and_another_size_of_the_cache_are_refused(checkpoints: Path) -> None:
    refused(checkpoints / "causal-lm", "model.dims is 128", str(DIMS[0]), dims=[128, 64])
    cache = 2 * 2 * 6 * 2 * 64  # bytes, key and value, layers, heads, width of a head
    open_checkpoint(config_of(checkpoints / "causal-lm", kv_bytes_per_token=cache))
    refused(checkpoints / "causal-lm", "model.kv_bytes_per_token is 7", str(cache), kv_bytes_per_token=7)


def test_another_revision_is_refused_and_a_folder_is_known_by_its_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("causal-lm")
    pinned = pin_and_check(config_of(folder))
    assert pinned.model.revision.startswith("sha256:")
    open_checkpoint(pinned)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    for guarded in (pin_and_check, open_checkpoint):
        with pytest.raises(ConfigError, match=pinned.model.revision.removeprefix("sha256:")):
            guarded(pinned)
    assert pin_and_check(config_of(folder)).model.revision != pinned.model.revision


def test_a_run_is_refused_before_an_engine_loads_or_an_output_is_made(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "one"}])
    done = embed_corpus("run", "--input", source, "--output", tmp_path / "out", "--set", "model.pooling=cls")
    assert done.returncode == 2
    assert done.stderr.startswith("embed-corpus: --set model.pooling is 'cls', the checkpoint says 'mean'")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
