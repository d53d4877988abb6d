"""What the files of a model say of its use, as keys of [model]: each with the file that says it, and none made up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.model.card import CARD, Card, read_card
from pipeline.model.checkpoint import ENCODERS, Checkpoint, read_checkpoint, read_json
from pipeline.model.weights import Weights

Fact = tuple[str, Any, str]  # key of [model], value, and where it comes from

PROMPTS = "config_sentence_transformers.json"
SETTINGS_OF_BERT = "sentence_bert_config.json"
TOKENIZER = "tokenizer_config.json"
MOST_TOKENS = 8192  # of a passage, unless more are asked for: what an engine keeps in memory follows it
UNLIMITED = 10**9  # a tokenizer that knows no limit writes a larger number
DECODERS = ("gemma", "llama", "mistral", "phi", "qwen")  # beginnings of the model types that look back alone
PADDED = ("camembert", "mpnet", "roberta")  # parts of the model types whose positions begin behind the padding token
MATRYOSHKA = re.compile(r'"matryoshka_dims":\s*\[([\d,\s]+)\]')  # as sentence-transformers writes a card
# A card that speaks of prompts, which then have to be known.
SPEAKS_OF_PROMPTS = re.compile(
    r"\b(?:instructions?|prompts?|prefix(?:es)?)\b|\bInstruct:|[\"'`]\w*(?:query|passage|document): ", re.IGNORECASE
)


def facts_of(folder: Path, weights: Weights) -> Iterator[Fact]:
    """Yield what the files of a folder say; raises EngineError for one without a config.json or a tokenizer.json."""
    found, card = read_checkpoint(folder), read_card(folder)
    config = read_json(folder / "config.json")
    text = config.get("text_config", config)
    yield "dtype", "auto", f"the weights are {found.dtype or 'of a type that config.json does not say'}"
    yield from _of_modules(found)
    yield from _attention(found, str(text.get("model_type", "")))
    yield "final_token", found.final_token, "tokenizer.json"
    yield from _dims(found.width, config | text, card)
    yield from _max_tokens(folder, text)
    yield from _prompts(folder, card)
    yield "n_parameters", float(f"{weights.n_parameters:.4g}"), "the headers of the weights"
    of_layers = f"2 * the {weights.n_multiplied:,} parameters outside the embedding tables"
    yield "flop_per_token", float(f"{2 * weights.n_multiplied:.3g}"), of_layers
    yield from _licence(card)


def _of_modules(found: Checkpoint) -> Iterator[Fact]:
    if found.pooling:
        yield "pooling", found.pooling, "the pooling that modules.json names"
    if found.normalized is not None:
        yield "normalized", found.normalized, "modules.json"


def _attention(found: Checkpoint, model_type: str) -> Iterator[Fact]:
    """Yield what is known of a model type: of another one the guard takes what the checkpoint says."""
    if any(part in model_type for part in ENCODERS) or model_type.startswith(DECODERS):
        yield "attention", found.attention, "config.json"
        yield (
            "kv_bytes_per_token",
            found.kv_bytes_per_token,
            "config.json: 2 * layers * heads of keys * width * 2 bytes",
        )


def _dims(width: int, config: dict[str, Any], card: Card) -> Iterator[Fact]:
    of_config, of_card = config.get("matryoshka_dimensions"), MATRYOSHKA.search(card.text)
    if isinstance(of_config, list):
        smaller, source = of_config, "config.json"
    elif of_card:
        smaller, source = [int(size) for size in of_card[1].split(",") if size.strip()], CARD
    else:
        smaller, source = [], "config.json; no file names smaller sizes that the model was trained for"
    trained = {size for size in smaller if isinstance(size, int) and 0 < size <= width}
    yield "dims", sorted(trained | {width}, reverse=True), source


def _max_tokens(folder: Path, text: dict[str, Any]) -> Iterator[Fact]:
    """Yield the least of the limits, of which sentence-transformers' own goes before the tokenizer's."""
    behind = (text.get("pad_token_id") or 0) + 1 if any(p in str(text.get("model_type")) for p in PADDED) else 0
    positions = (text.get("max_position_embeddings") or text.get("n_positions") or 0) - behind
    own = (read_json(folder / SETTINGS_OF_BERT) or {}).get("max_seq_length")
    of_tokenizer = (read_json(folder / TOKENIZER) or {}).get("model_max_length")
    limits = {"config.json": positions, **({SETTINGS_OF_BERT: own} if own else {TOKENIZER: of_tokenizer})}
    known = {file: int(limit) for file, limit in limits.items() if limit and 0 < limit < UNLIMITED}
    if known:
        file = min(known, key=lambda file: known[file])
        if known[file] > MOST_TOKENS:
            yield "max_tokens", MOST_TOKENS, f"{file}: the model takes {known[file]:,}"
        else:
            yield "max_tokens", known[file], file


def _prompts(folder: Path, card: Card) -> Iterator[Fact]:
    """Yield the prompts; none where the card speaks of some and no file has them."""
    prompts = (read_json(folder / PROMPTS) or {}).get("prompts") or {}
    names = [name for name in ("query", "document", "passage") if name in prompts]
    if names or not SPEAKS_OF_PROMPTS.search(card.text):
        source = PROMPTS if names else "no file speaks of prompts"
        yield "document_prompt", prompts.get("document") or prompts.get("passage") or "", source
        yield "query_prompt", prompts.get("query") or "", source


def _licence(card: Card) -> Iterator[Fact]:
    licence = card.metadata.get("license")
    if licence == "other":
        licence = card.metadata.get("license_name")
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    if isinstance(licence, str) and licence:
        yield "licence", licence, CARD
