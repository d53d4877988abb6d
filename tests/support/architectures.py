"""Tiny random checkpoints of the architectures that shipped models have, saved as sentence-transformers saves them.

python -m tests.support.architectures FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

WIDTH = 64
DENSE_WIDTH = 96  # of the layer between, as in EmbeddingGemma
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *"0123456789", *".,:?!|"]
N_WORDS = 4 + 2 * len(LETTERS)
BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>")
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>")
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>")
SMALL: dict[str, Any] = {
    "vocab_size": N_WORDS,
    "hidden_size": WIDTH,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}


class Kind(NamedTuple):
    """How a checkpoint is made."""

    architecture: str  # a class of transformers, less "Model"
    config: str
    settings: dict[str, Any]
    special: Sequence[str]  # tokens, in the order of their ids
    first: str  # that a text begins with; "" for none
    last: str
    pooling: str
    max_tokens: int | None = None  # that sentence-transformers is to keep; None = what the tokenizer says
    tokenizer_max: int = 10**30  # as a tokenizer without a limit writes it
    prompts: dict[str, str] | None = None
    dense: bool = False
    licence: str = "mit"


OF_BERT = {"max_position_embeddings": 128, "pad_token_id": 0}
# Of 130 positions two are those of padding and before. The kind of position is in every config.json of the hub, where
# transformers 5 no longer writes it, and vLLM 0.32 asks for it.
OF_XLMR = {"max_position_embeddings": 130, "pad_token_id": 1, "position_embedding_type": "absolute"}
OF_QWEN = {"head_dim": 32, "num_key_value_heads": 1, "max_position_embeddings": 32768}
OF_GEMMA = {
    "head_dim": 32,
    "num_key_value_heads": 1,
    "max_position_embeddings": 2048,
    "query_pre_attn_scalar": 32,
    "sliding_window": 32,
    "use_bidirectional_attention": True,
}
OF_MODERN = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
OF_MODERN |= {"max_position_embeddings": 8192}
KINDS = {
    "bge": Kind("Bert", "BertConfig", OF_BERT, BERT, "[CLS]", "[SEP]", "cls", max_tokens=128),
    "e5": Kind(
        "Bert",
        "BertConfig",
        OF_BERT,
        BERT,
        "[CLS]",
        "[SEP]",
        "mean",
        max_tokens=96,
        prompts={"query": "query: ", "passage": "passage: "},
    ),
    "xlmr": Kind("XLMRoberta", "XLMRobertaConfig", OF_XLMR, ROBERTA, "<s>", "</s>", "mean"),
    "qwen3": Kind(
        "Qwen3",
        "Qwen3Config",
        OF_QWEN,
        QWEN,
        "",
        "<|endoftext|>",
        "lasttoken",
        prompts={"query": "instruct: find\nquery:", "document": ""},
        licence="apache-2.0",
    ),
    "gemma3": Kind(
        "Gemma3Text",
        "Gemma3TextConfig",
        OF_GEMMA,
        GEMMA,
        "<bos>",
        "<eos>",
        "mean",
        tokenizer_max=2048,
        prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
        dense=True,
        licence="gemma",
    ),
    "modernbert": Kind(
        "ModernBert",
        "ModernBertConfig",
        OF_MODERN,
        BERT,
        "[CLS]",
        "[SEP]",
        "cls",
        tokenizer_max=8192,
        licence="apache-2.0",
    ),
}


def write_all(root: Path, names: Sequence[str]) -> None:
    """Write the checkpoints of these names, each into a folder of its own."""
    for name in names:
        write_checkpoint(root / name, KINDS[name])


def write_checkpoint(folder: Path, kind: Kind) -> None:
    """Write one checkpoint with everything that is beside it on the hub."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    torch.manual_seed(0)
    config = getattr(transformers, kind.config)(**SMALL | kind.settings)
    parts = folder.with_name(f"{folder.name}-parts")
    getattr(transformers, f"{kind.architecture}Model")(config).save_pretrained(parts)
    write_tokenizer(parts, kind)
    transformer = Transformer(str(parts), max_seq_length=kind.max_tokens)
    widths = [(WIDTH, DENSE_WIDTH), (DENSE_WIDTH, WIDTH)] if kind.dense else []
    layers = [Dense(*width, bias=False, activation_function=torch.nn.Identity()) for width in widths]
    modules = [transformer, Pooling(WIDTH, kind.pooling), *layers, Normalize()]
    SentenceTransformer(modules=modules, prompts=kind.prompts).save_pretrained(str(folder), create_model_card=False)
    if kind.prompts is None:  # as the many models that were saved before there were prompts
        settings = folder / "config_sentence_transformers.json"
        kept = {key: value for key, value in json.loads(settings.read_text()).items() if key != "prompts"}
        settings.write_text(json.dumps(kept))
    (folder / "README.md").write_text(f"---\nlicense: {kind.licence}\n---\n\nVectors of texts.\n")


def write_tokenizer(folder: Path, kind: Kind) -> None:
    """Write a tokenizer of letters and of the letters within a word."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*kind.special, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    unknown = next(token for token in kind.special if "unk" in token.lower())
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [token for token in (kind.first, kind.last) if token]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*([kind.first] if kind.first else []), "$A", kind.last],
        special_tokens=[(token, words.index(token)) for token in ends],
    )
    pad = next((token for token in kind.special if "pad" in token.lower()), kind.special[0])
    named = {"pad_token": pad, "unk_token": unknown, "eos_token": kind.last}
    make: Any = PreTrainedTokenizerFast
    make(tokenizer_object=tokenizer, model_max_length=kind.tokenizer_max, **named).save_pretrained(folder)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]), sys.argv[2:])
