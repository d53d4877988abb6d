"""The golden check: a few texts whose vectors a reference implementation made once, against those of a loaded engine.

It finds what no file says: attention saved under another name, a prompt that is missing, a token that is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config, ModelConfig
from pipeline.console import note
from pipeline.errors import ConfigError, EngineError, UsageError
from pipeline.model import make_tokenizer
from pipeline.shipped import find_file

DIMS = 256  # leading components that are kept of a vector, or all of a narrower one
LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.995, "float16": 0.995}
TEXTS = (
    "Deserialize a JSON document from a string to a Python object.",
    "The mitochondrion makes most of the cell's supply of adenosine triphosphate.",
    "Größe und Maß: 漢字かな交じり文, русский текст, عربى, emoji 🙂.",
    "def add(a, b):\n    return a + b",
    "x",
    "A text that goes on until it does not fit, and is cut. " * 60,
)
QUERIES = ("how do I parse JSON?", "what powers a cell")

Embed = Callable[[Sequence[Sequence[int]]], NDArray[np.float32]]  # token ids to vectors of the model's full width


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """Texts and their reference vectors, as a file of configs/golden/ holds them."""

    model: str
    revision: str
    reference: str  # which implementation made the vectors, in which dtype
    max_tokens: int
    document_prompt: str
    query_prompt: str
    documents: list[str]
    queries: list[str]
    vectors: list[list[float]]  # unit length; of the documents, then of the queries


def golden_path(model: ModelConfig) -> Path:
    """Return the path of a model's golden file; raises UsageError when its config names none."""
    if not model.golden:
        raise UsageError("model.golden: expected a file to write, such as configs/golden/MODEL.json, found none")
    return find_file(model.golden)


def make_golden(config: Config) -> Golden:
    """Return reference vectors of sentence-transformers in float32, which does its own tokenising and pooling."""
    from pipeline.engines.sentence_transformers import reference_vectors

    model = config.model
    prompted = [model.document_prompt + text for text in TEXTS] + [model.query_prompt + text for text in QUERIES]
    full, reference = reference_vectors(config, prompted)
    vectors = _unit(full)
    return Golden(
        model=model.name,
        revision=model.revision,
        reference=reference,
        max_tokens=model.max_tokens,
        document_prompt=model.document_prompt,
        query_prompt=model.query_prompt,
        documents=list(TEXTS),
        queries=list(QUERIES),
        vectors=[[float(f"{x:.5g}") for x in vector] for vector in vectors.tolist()],
    )


def write_golden(golden: Golden, path: Path) -> None:
    """Write a golden file, a vector a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {name: json.dumps(value, ensure_ascii=False) for name, value in msgspec.to_builtins(golden).items()}
    fields["vectors"] = "[\n" + ",\n".join(json.dumps(vector) for vector in golden.vectors) + "\n]"
    path.write_text("{\n" + ",\n".join(f'"{name}": {text}' for name, text in fields.items()) + "\n}\n", "utf-8")


def check_golden(config: Config, embed: Embed) -> None:
    """Compare an engine with the golden file of its model; one line says that a model has none.

    Raises EngineError with the text and its cosine when a vector is not that of the reference, and ConfigError when
    the config lacks a prompt that the reference had; another prompt is a choice, and one line says so.
    """
    model = config.model
    if not (model.golden and golden_path(model).exists()):
        where = f"{model.golden} is not there" if model.golden else "model.golden names no file"
        note(f"no reference vectors of {model.name} to check the engine against ({where}); `embed-corpus golden`")
        return
    golden = read_golden(golden_path(model))
    _check_prompts(model, golden)
    texts, cosines = golden_cosines(config, embed, golden)
    worst, least = int(np.argmin(cosines)), LEAST_COSINE[model.dtype]
    if not cosines[worst] >= least:
        raise EngineError(
            f"{model.golden}: expected a cosine of at least {least} to the vectors that {golden.reference} made of "
            f"revision {golden.revision}, found {cosines[worst]:.4f} for {texts[worst][:40]!r} and revision "
            f"{model.revision}: pooling, attention, tokenizer or weights are not those of the reference. If they are "
            "as they should be, `embed-corpus golden` makes the file anew"
        )


def _check_prompts(model: ModelConfig, golden: Golden) -> None:
    for key, ours, theirs in (
        ("document_prompt", model.document_prompt, golden.document_prompt),
        ("query_prompt", model.query_prompt, golden.query_prompt),
    ):
        if theirs and not ours:
            raise ConfigError(
                f"model.{key} is {ours!r}, {model.golden} has {theirs!r}: texts without their prompt get other vectors "
                "than those with it"
            )
        if ours != theirs:
            note(f"model.{key} is {ours!r}, not {theirs!r} as in {model.golden}; it is taken as meant")


def read_golden(path: Path) -> Golden:
    """Read a golden file; raises EngineError naming it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Golden)
    except (OSError, msgspec.DecodeError) as error:
        raise EngineError(f"{path}: expected a golden file, found: {error}") from error


def golden_cosines(config: Config, embed: Embed, golden: Golden) -> tuple[list[str], NDArray[np.float64]]:
    """Return the texts that the engine can take as the reference did, and the cosine of each, shape (n,)."""
    prompted = [golden.document_prompt + text for text in golden.documents]
    prompted += [golden.query_prompt + text for text in golden.queries]
    windows = make_tokenizer(config, max_tokens=golden.max_tokens).windows(prompted)
    ids = [of_text[0].ids for of_text in windows]
    fits = [at for at, tokens in enumerate(ids) if len(tokens) <= config.model.max_tokens]
    found = _unit(embed([ids[at] for at in fits]))
    cosines: NDArray[np.float64] = np.sum(found * np.array([golden.vectors[at] for at in fits]), axis=1)
    return [prompted[at] for at in fits], cosines


def _unit(full: NDArray[np.float32]) -> NDArray[np.float64]:
    kept = full[:, :DIMS].astype(np.float64)
    unit: NDArray[np.float64] = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    return unit
