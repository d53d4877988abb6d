"""Engines turn token ids into full-width vectors. An engine is one file here and one entry of ENGINES."""

from pipeline.config import ENGINES, EngineKind
from pipeline.engines.embedder import Embedder, Sleeper, check_installed, default_kind, make_embedder
from pipeline.engines.golden import golden_path, make_golden, write_golden
from pipeline.engines.lightest import make_lightest
from pipeline.engines.made_by import MadeBy
from pipeline.engines.thread import Embedded, Engine, EngineThread
from pipeline.engines.vllm import VLLMEmbedder, engine_arguments, pooler_arguments, vllm_environment

__all__ = [
    "ENGINES",
    "Embedded",
    "Embedder",
    "Engine",
    "EngineKind",
    "EngineThread",
    "MadeBy",
    "Sleeper",
    "VLLMEmbedder",
    "check_installed",
    "default_kind",
    "engine_arguments",
    "golden_path",
    "make_embedder",
    "make_golden",
    "make_lightest",
    "pooler_arguments",
    "vllm_environment",
    "write_golden",
]
