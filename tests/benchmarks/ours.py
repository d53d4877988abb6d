"""A whole run of the pipeline in this process, and what it took.

python -m tests.benchmarks.ours INPUT OUTPUT --config local [--set table.key=value …] [--profile]
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

import pipeline
from pipeline.dataset import Store
from tests.benchmarks import dummy, instant
from tests.benchmarks.phases import Sampler

# What a run imports as it goes, and this program before the clock starts.
IMPORTED = ("pandas", "huggingface_hub.repocard_data", "pipeline.driver")


def main() -> int:
    """Run, and print one JSON object."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--config")
    parser.add_argument("--model")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--profile", action="store_true", help="say in which files the time goes; takes time itself")
    asked = parser.parse_args()
    instant.offer()
    dummy.offer()
    for name in IMPORTED:
        import_module(name)
    run = pipeline.run

    with Sampler() if asked.profile else contextlib.nullcontext() as sampler:
        began, began_cpu = time.time(), time.process_time()
        status = run(asked.input, asked.output, config=asked.config, model=asked.model, set=asked.set)
        ended, cpu_s = time.time(), time.process_time() - began_cpu
    receipts = Store(root=asked.output).read_manifest().receipts.values()
    ready_at = min((receipt.engine_ready_at for receipt in receipts if receipt.engine_calls), default=began)
    kept = ("input_rows", "embedded_rows", "embedded_now", "tokens", "parts", "engine_s", "engine_busy")
    found = {
        "wall_s": ended - began,
        "from_ready_s": ended - ready_at,  # from the engine's being ready until all is written and checked
        "cpu_s": cpu_s,
        "peak_rss_bytes": status["peak_rss_bytes"],
        **{name: status[name] for name in kept},
        **({"profile": sampler.seconds()} if sampler else {}),
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
