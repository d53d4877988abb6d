"""Tiny random checkpoints of the shape of Gemma 3 12B, with a byte-fallback tokenizer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DIMS = [240, 128, 64, 32, 16, 8, 4]  # 3840 … 64, a sixteenth
MAX_TOKENS = 96
FINAL_TOKEN = "<eos>"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
MODULES = ["Transformer", "Pooling", "Normalize"]


def write_tokenizer(folder: Path, *, final: bool = True, **settings: Any) -> None:
    """Write a tokenizer of letters, two merges and bytes; without `final` no token ends a text."""
    from tokenizers import Tokenizer, models, normalizers, processors

    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijklmnopqrstuvwxyz", "▁t", "he"]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    bpe = models.BPE(vocab=vocabulary, merges=[("▁", "t"), ("h", "e")], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["<bos>", "$A", *(["<eos>"] if final else [])], special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **named, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_modules(folder: Path, *, pooling: str = "lasttoken", modules: list[str] = MODULES) -> None:
    """Write what sentence-transformers writes beside a model."""
    paths = {name: f"{at}_{name}" if at else "" for at, name in enumerate(modules)}
    table = [
        {"idx": at, "name": str(at), "path": paths[name], "type": f"sentence_transformers.models.{name}"}
        for at, name in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(table))
    for path in filter(None, paths.values()):
        (folder / path).mkdir()
    config = {"word_embedding_dimension": DIMS[0], f"pooling_mode_{pooling}": True, "pooling_mode_max_tokens": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(config))


def change_config(folder: Path, **values: Any) -> None:
    """Set keys of a config.json; None takes one out."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def write_all(root: Path) -> None:
    """Write causal-lm and bidirectional-lm, causal-text and bidirectional-text; causal-st has its modules beside it."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Gemma3TextModel

    kinds = {"lm": Gemma3ForCausalLM, "text": Gemma3TextModel, "st": Gemma3ForCausalLM}
    for name in ("causal-lm", "causal-text", "bidirectional-text", "bidirectional-lm", "causal-st"):
        attention, _, kind = name.partition("-")
        config = Gemma3TextConfig(
            vocab_size=320,
            hidden_size=DIMS[0],
            intermediate_size=480,
            num_hidden_layers=6,  # five with a sliding window, one without, as in Gemma 3
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            sliding_window=16,
            max_position_embeddings=512,
            query_pre_attn_scalar=64,
            initializer_range=0.05,
            use_bidirectional_attention=attention == "bidirectional",
        )
        torch.manual_seed(0)
        kinds[kind](config).save_pretrained(root / name)
        write_tokenizer(root / name)
        if kind == "st":
            write_modules(root / name)


def model_tables(folder: Path, **model: Any) -> dict[str, Any]:
    """Return the tables of a config for a checkpoint; small settings, so that an engine loads fast."""
    return {
        "model": {
            "name": f"tests/{folder.name}",
            "revision": "main",
            "location": str(folder),
            "dtype": "float32",
            "pooling": "last",
            "final_token": FINAL_TOKEN,
            "dims": DIMS,
            "max_tokens": MAX_TOKENS,
            "flop_per_token": 1.0,
            "licence": "none",
            **model,
        },
        "engine": {"kind": "vllm", "max_num_seqs": 16, "max_num_batched_tokens": 512, "kv_cache_bytes": 1 << 26},
    }


def write_config(path: Path, tables: dict[str, Any]) -> Path:
    """Write tables as TOML, whose plain values are written as JSON's are."""
    lines = [
        line
        for name, table in tables.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()))
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
