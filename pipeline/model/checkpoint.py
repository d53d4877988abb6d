"""The guard: what a checkpoint says about its own use, held against the config before an engine is loaded.

Each of these mismatches raises no error in an engine and gives other vectors than the model was trained for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tokenizers

from pipeline.config import ENGINES, Config
from pipeline.errors import ConfigError, EngineError
from pipeline.model.card import check_name
from pipeline.model.files import check_revision, locate, pinned

Attention = Literal["causal", "bidirectional"]
ENCODERS = ("bert", "roberta", "mpnet", "electra", "xlm")  # parts of the model types that always look both ways
OBEY_IS_CAUSAL = ("Gemma3", "Llama", "Qwen2", "Qwen3")  # architectures for which vLLM 0.32 reads `is_causal`
POOLING = {"pooling_mode_lasttoken": "last", "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
POOLING |= {"lasttoken": "last", "mean": "mean", "cls": "cls"}  # the one key that sentence-transformers writes since 5
MODULES = {"Transformer", "Pooling", "Normalize", "Dense", "Dropout"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What the files of a model say; None where they say nothing."""

    architecture: str
    attention: Attention  # that it was trained with
    vllm_attention: Attention  # that vLLM gives this architecture
    pooling: str | None
    normalized: bool | None
    modules: tuple[str, ...]  # of sentence-transformers
    document_prompt: str | None
    width: int
    dtype: str | None
    overflows: bool  # in float16, which ends at 65,504
    final_token: str  # that its tokenizer puts behind every text; "" is none
    wanted_final_token: str | None  # that its settings ask for
    kv_bytes_per_token: int  # at two bytes a number; 0 without a key-value cache


def pin_and_check(config: Config) -> Config:
    """Return the config with its revision resolved to a hash, after the guard has passed; loads no weights.

    The files of a folder are held against the name too; `search` leaves that out for datasets that have a wrong one.
    Raises ConfigError as `check` and `check_name` do, and EngineError when the model is not to be had.
    """
    if not ENGINES[config.engine.kind].needs_weights:
        return config
    folder = locate(config.model, settings_only=True) if config.model.location else None
    if folder is not None:
        check_name(config.model, folder)
    config = replace(config, model=pinned(config.model))
    check(config, read_checkpoint(folder or locate(config.model, settings_only=True)))
    return config


def open_checkpoint(config: Config) -> Path:
    """Return the folder with everything an engine needs, once revision and guard have passed."""
    folder = locate(config.model)
    check_revision(config.model, folder)
    if ENGINES[config.engine.kind].needs_weights:
        check(config, read_checkpoint(folder))
    return folder


def check(config: Config, found: Checkpoint) -> None:
    """Raise ConfigError with the key, both values and the consequence for the first mismatch."""
    for key, ours, theirs, consequence in _mismatches(config, found):
        raise ConfigError(f"model.{key} is {ours!r}, the checkpoint says {theirs!r}: {consequence}")


def _mismatches(config: Config, found: Checkpoint) -> Iterator[tuple[str, object, object, str]]:
    model = config.model
    if found.pooling and model.pooling != found.pooling:
        yield "pooling", model.pooling, found.pooling, "vectors of another pooling are not those of the model"
    if found.normalized is not None and model.normalized != found.normalized:
        yield (
            "normalized",
            model.normalized,
            found.normalized,
            "stored vectors have unit length, and a model that ranks by the dot product loses the lengths it ranks by",
        )
    if unknown := set(found.modules) - MODULES:
        yield "name", model.name, sorted(unknown), "no engine here applies that module"
    if model.attention and model.attention != found.attention:
        yield "attention", model.attention, found.attention, "each token would see others than it was trained to see"
    if ENGINES[config.engine.kind].loads_as_vllm and found.attention != found.vllm_attention:
        yield (
            "attention",
            f"{found.vllm_attention} as vLLM loads {found.architecture}",
            found.attention,
            "vLLM raises no error and gives vectors with a cosine near 0.8 to the right ones; take the branch whose "
            "architecture is the bare model",
        )
    if model.dtype == "float16" and (found.overflows or found.dtype == "bfloat16"):
        yield "dtype", model.dtype, found.dtype, "its activations overflow float16; take bfloat16 or float32"
    if model.dims[0] != found.width:
        yield "dims", model.dims[0], found.width, "the first size is the model's full width"
    for wanted in (model.final_token, found.wanted_final_token):
        if wanted and wanted != found.final_token:
            yield (
                "final_token",
                wanted,
                found.final_token,
                "tokenizer.json does not end a text the way the model was trained, and `last` pooling reads that token",
            )
    if found.document_prompt and not model.document_prompt:
        yield (
            "document_prompt",
            model.document_prompt,
            found.document_prompt,
            "passages without their prompt get other vectors than the model was trained for",
        )
    if model.kv_bytes_per_token and model.kv_bytes_per_token != found.kv_bytes_per_token:
        yield (
            "kv_bytes_per_token",
            model.kv_bytes_per_token,
            found.kv_bytes_per_token,
            "memory would be planned by a wrong number",
        )


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read config.json, the modules of sentence-transformers and the tokenizer; raises EngineError naming the file."""
    config = read_json(folder / "config.json")
    if config is None:
        raise EngineError(f"{folder}: expected a model with a config.json, found none")
    text = config.get("text_config", config)
    architecture = (config.get("architectures") or [""])[0]
    declared, loaded = _attention(architecture, text)
    modules = {module["type"].rpartition(".")[2]: module["path"] for module in read_json(folder / "modules.json") or ()}
    pooling = read_json(folder / modules["Pooling"] / "config.json") if "Pooling" in modules else None
    dense = read_json(folder / modules["Dense"] / "config.json") if "Dense" in modules else None
    prompts = (read_json(folder / "config_sentence_transformers.json") or {}).get("prompts") or {}
    final, wanted = _final_tokens(folder)
    return Checkpoint(
        architecture=architecture,
        attention=declared,
        vllm_attention=loaded,
        pooling=_pooling(pooling) if pooling else None,
        normalized="Normalize" in modules if modules else None,
        modules=tuple(modules),
        document_prompt=prompts.get("document") or prompts.get("passage"),
        width=dense["out_features"] if dense else _width(text, folder),
        dtype=text.get("dtype") or text.get("torch_dtype"),
        overflows=text.get("model_type", "").startswith("gemma3"),
        final_token=final,
        wanted_final_token=wanted,
        kv_bytes_per_token=_kv_bytes_per_token(text) if declared == "causal" else 0,
    )


def _attention(architecture: str, text: dict[str, Any]) -> tuple[Attention, Attention]:
    """Return what a config.json asks for, and what vLLM 0.32 makes of it."""
    if any(part in text.get("model_type", "") for part in ENCODERS):
        return "bidirectional", "bidirectional"
    if text.get("use_bidirectional_attention"):
        return "bidirectional", "bidirectional" if architecture == "Gemma3TextModel" else "causal"
    if text.get("is_causal") is False:
        return "bidirectional", "bidirectional" if architecture.startswith(OBEY_IS_CAUSAL) else "causal"
    return "causal", "causal"


def _width(text: dict[str, Any], folder: Path) -> int:
    """Return the width of the hidden states."""
    width = text.get("hidden_size") or text.get("n_embd")  # the latter is of GPT-2 and of Nomic's BERT
    if not isinstance(width, int):
        raise EngineError(f"{folder / 'config.json'}: expected hidden_size, found none")
    return width


def _pooling(config: dict[str, Any]) -> str:
    modes = [config["pooling_mode"]] if "pooling_mode" in config else [key for key in config if config[key] is True]
    known = [POOLING[mode] for mode in modes if mode in POOLING]
    return known[0] if len(known) == 1 else "+".join(modes)


def _kv_bytes_per_token(text: dict[str, Any]) -> int:
    """Return the bytes of a key and a value for each head of each layer, two bytes a number; 0 where it is not said."""
    n_heads = text.get("num_attention_heads")
    if n_heads is None:
        return 0
    head_dim = text.get("head_dim") or text["hidden_size"] // n_heads
    return int(2 * 2 * text["num_hidden_layers"] * text.get("num_key_value_heads", n_heads) * head_dim)


def _final_tokens(folder: Path) -> tuple[str, str | None]:
    """Return the special token with which tokenizer.json ends a text, and the one that the settings beside it want."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise EngineError(f"{path}: expected a tokenizer.json, found: {error}") from error
    tokenizer.no_padding()
    encoding = tokenizer.encode("a")
    final = encoding.tokens[-1] if encoding.special_tokens_mask[-1] else ""
    settings = read_json(folder / "tokenizer_config.json") or {}
    end = settings.get("eos_token")
    wanted = (end["content"] if isinstance(end, dict) else end) if settings.get("add_eos_token") else None
    return final, wanted


def read_json(path: Path) -> Any:
    """Return what a file of JSON has, None without the file; raises EngineError naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: expected JSON, found: {error}") from error
