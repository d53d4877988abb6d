"""The engine alone at some lengths: tokens a second, and which device computed them.

python -m tests.benchmarks.gpu_engine (--config C | --model ID) [--set table.key=value …] --lengths 64 512 --tokens N
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace

import numpy as np

from pipeline.config import Config, load_config
from pipeline.engines import Embedder
from pipeline.model import read_named, settle_dtype, this_device
from pipeline.shipped import find_config
from tests.benchmarks.dummy import DummyEmbedder, offer

REPEATS = 3
MOST_ID = 20_000  # of a token: every model has that many


def config_of(asked: Namespace) -> Config:
    """Return the config that the flags name."""
    if asked.model:
        return settle_dtype(read_named(asked.model, asked.set, kind="vllm").config, this_device())
    return settle_dtype(load_config(find_config(asked.config), asked.set), this_device())


def rates(engine: Embedder, length: int, n_tokens: int) -> list[float]:
    """Return the tokens a second of REPEATS calls with random token ids, each of about `n_tokens`."""
    drawn = np.random.default_rng(length).integers(1_000, MOST_ID, (max(1, n_tokens // length), length)).tolist()
    engine.embed(drawn[:4])
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        engine.embed(drawn)
        found.append(len(drawn) * length / (time.perf_counter() - began))
    return found


def main() -> int:
    """Measure each length, and print one JSON object."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="local")
    parser.add_argument("--model")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--lengths", type=int, nargs="+", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    asked = parser.parse_args()
    offer()
    config = config_of(asked)
    began = time.perf_counter()
    engine = DummyEmbedder(config)
    load_s = time.perf_counter() - began
    found = {str(length): rates(engine, length, asked.tokens) for length in asked.lengths}
    print(json.dumps({"load_s": load_s, "flop_per_token": config.model.flop_per_token, "tokens_per_s": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
