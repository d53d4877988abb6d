"""The kinds of engines: how each is made, and what other rooms have to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["bfloat16", "float32", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """How an engine is made, and what other rooms have to know of it."""

    make: str  # MODULE:NAME, called with the Config; imported only when an engine is made
    needs_weights: bool = True  # reads a checkpoint: tokenizer, weights, reference vectors
    serves_http: bool = False
    loads_as_vllm: bool = False  # gives each architecture the attention that vLLM gives it
    computes_in: Dtype | None = None  # None = the configured dtype
    package: str = ""  # that it imports, and that the extra of the engine's name brings if any; "" = none
    refuses: str = ""  # MODULE:NAME, called with the Config: why the engine cannot take its model, "" where it can
    starts_in_s: float = 0.0  # about, with a small model on a CPU: what a few texts are embedded with starts soonest


# By `engine.kind`. A new engine is a file in pipeline/engines/ and an entry here.
ENGINES = {
    "vllm": EngineKind(
        make="pipeline.engines.vllm:VLLMEmbedder",
        serves_http=True,
        loads_as_vllm=True,
        package="vllm",
        starts_in_s=15,
    ),
    "sentence-transformers": EngineKind(
        make="pipeline.engines.sentence_transformers:SentenceTransformersEmbedder",
        package="sentence_transformers",
        starts_in_s=9,
    ),
    "numpy": EngineKind(
        make="pipeline.engines.bert:BertEmbedder",
        package="safetensors",
        refuses="pipeline.engines.bert:refusal",
        computes_in="float32",
        starts_in_s=1,
    ),
    "hashing": EngineKind(make="pipeline.engines.hashing:HashingEmbedder", needs_weights=False, computes_in="float32"),
}
