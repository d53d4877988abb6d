"""Step: how long the engine loads, how fast it is and what memory it takes, on the GPU of the config."""

from __future__ import annotations

import os
import pydoc_data.topics
import random
import shutil
import subprocess
import time
from typing import Any

import modal

from jobs.body import WITH_GPU, settled
from jobs.checks.ledger import Finding, Ledger
from jobs.pool import usd_per_s
from jobs.resources import MINUTES
from pipeline.config import ENGINES, Config
from pipeline.console import peak_rss_bytes
from pipeline.engines import EngineThread
from pipeline.files import VOLUMES_VARIABLE
from pipeline.model import make_tokenizer, pin_and_check

app = modal.App("embedding-preflight-engine")
N_TEXTS = 2000
MEDIAN_WORDS = 150
EXPECTED_S = 420.0  # of one container: its start, a load over the network, and the texts
GIB = 2**30
ASKED: dict[str, Any] = {
    name: value for name, value in WITH_GPU.items() if name not in ("max_containers", "scaledown_window")
}


@app.function(**ASKED | {"timeout": 20 * MINUTES, "retries": 0}, single_use_containers=True)
def try_engine(config: str, prefetch: bool) -> dict[str, Any]:
    """Load the engine of a config, with the weights read ahead or page by page, and embed some texts."""
    os.environ[VOLUMES_VARIABLE] = "1" if prefetch else ""
    settings = pin_and_check(settled(config))
    began = time.monotonic()
    engine = EngineThread(settings)
    engine.wait()
    load_s = time.monotonic() - began
    tokenizer = make_tokenizer(settings, max_tokens=settings.model.max_tokens)
    token_ids = [windows[0].ids for windows in tokenizer.windows(sample_texts(N_TEXTS))]
    embedded = engine.embed(token_ids, settings.dim)
    used, of_all = _gpu_memory_mib()
    n_tokens = sum(map(len, token_ids))
    engine.close()
    return {
        "load_s": round(load_s, 1),
        "n_texts": len(token_ids),
        "n_tokens": n_tokens,
        "engine_s": round(embedded.seconds, 3),
        "tokens_per_s": round(n_tokens / embedded.seconds, 1),
        "n_refused": len(embedded.refused),
        "gpu_memory_mib": used,
        "gpu_memory_of_mib": of_all,
        "host_memory_bytes": peak_rss_bytes(),
    }


def engine_usd(config: Config) -> float:
    """Return what the step is expected to cost."""
    return usd_per_s(config, config.modal.gpu) * EXPECTED_S * len(_loads(config))


def check_engine(ledger: Ledger) -> Finding:
    """Load and run the engine twice, with its weights read ahead and page by page; without weights once."""
    price = usd_per_s(ledger.config, ledger.config.modal.gpu)
    found: dict[str, Any] = {}
    loads = _loads(ledger.config)
    with app.run():
        for name, prefetch in loads.items():
            with ledger.renting(usd_per_s=price, expected_s=EXPECTED_S):
                found[name] = try_engine.remote(ledger.path, prefetch)
    used = found["ahead"]
    memory = f"{used['gpu_memory_mib'] / 1024:.1f} GiB of the GPU, " if used["gpu_memory_of_mib"] else ""
    means = [
        f"{used['tokens_per_s']:,.0f} tokens/s over {used['n_texts']:,} texts of {used['n_tokens']:,} tokens: `plan` "
        f"and runs reckon with it; a million tokens take ${price * 1e6 / used['tokens_per_s']:,.4f} of the engine",
        f"memory: {memory}{used['host_memory_bytes'] / GIB:.1f} GiB of the host",
    ]
    if len(loads) > 1:
        means.append(
            f"the model loads in {used['load_s']:.0f} s with its weights read ahead, as the service reads them, and in "
            f"{found['by_page']['load_s']:.0f} s page by page"
        )
    if used["n_refused"]:
        means.append(f"{used['n_refused']} texts were refused: a run would reject such rows")
    measured = {"tokens_per_s": used["tokens_per_s"], "load_s": used["load_s"]}
    return Finding(found=found, means=means, is_well=not used["n_refused"], measured=measured)


def sample_texts(n: int) -> list[str]:
    """Return English texts out of Python's own documentation, most of them of 40 to 500 words; always the same."""
    words = " ".join(pydoc_data.topics.topics.values()).split()
    chance = random.Random(0)
    lengths = [min(len(words), 1 + round(chance.lognormvariate(0, 0.7) * MEDIAN_WORDS)) for _ in range(n)]
    starts = [chance.randrange(len(words) - length + 1) for length in lengths]
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def _loads(config: Config) -> dict[str, bool]:
    """Return the ways to load, each with whether weights are read ahead."""
    return {"ahead": True, "by_page": False} if ENGINES[config.engine.kind].needs_weights else {"ahead": True}


def _gpu_memory_mib() -> tuple[int, int]:
    """Return how much of the GPU's memory is in use, and how much there is; zeros without a GPU."""
    if shutil.which("nvidia-smi") is None:
        return 0, 0
    asked = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    first = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    used, of_all = (int(number) for number in first.split(","))
    return used, of_all
