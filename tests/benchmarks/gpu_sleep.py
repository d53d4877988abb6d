"""Sleep and wake of the engine on a GPU: how long they take, what is left in memory, and whether vectors are the same.

python -m tests.benchmarks.gpu_sleep (--config C | --model ID) [--set table.key=value …]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.dummy import DummyEmbedder, offer
from tests.benchmarks.gpu_engine import MOST_ID, config_of

STATUS = Path("/proc/self/status")
REPEATS = 3
N_TEXTS, LENGTH = 256, 64  # that are embedded awake, and after each wake


def gpu_mib() -> int:
    """Return how much memory of the first GPU is taken, MiB, by whatever takes it."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0])


def host_mib() -> int:
    """Return how much memory of the host this process takes, MiB."""
    return int(re.findall(r"VmRSS:\s+(\d+)", STATUS.read_text())[0]) >> 10


def took_s(step: Callable[[], None]) -> float:
    """Return the seconds that a step takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> int:
    """Let the engine sleep and wake, and print one JSON object."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="local")
    parser.add_argument("--model")
    parser.add_argument("--set", action="append", default=[])
    offer()
    engine = DummyEmbedder(config_of(parser.parse_args()))
    token_ids = np.random.default_rng(0).integers(1_000, MOST_ID, (N_TEXTS, LENGTH)).tolist()
    first = engine.embed(token_ids)
    awake = {"gpu_awake_mib": gpu_mib(), "host_awake_mib": host_mib()}
    asleep: list[dict[str, float]] = []
    same = True
    for _ in range(REPEATS):
        sleep_s = took_s(engine.sleep)
        memory = {"gpu_asleep_mib": gpu_mib(), "host_asleep_mib": host_mib()}
        wake_s = took_s(engine.wake)
        asleep.append({"sleep_s": sleep_s, "wake_s": wake_s, **memory})
        same = same and bool(np.array_equal(engine.embed(token_ids), first))
    print(json.dumps({**awake, "asleep": asleep, "same": same, "host_after_mib": host_mib()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
