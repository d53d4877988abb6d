"""The engine on a GPU: tokens a second and share of the peak by length, the best step, a whole run, sleep, the price.

Without --model it is the shape of the production model with dummy weights, which nothing has to be downloaded for.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import ModelConfig, load_config
from pipeline.model import read_named
from pipeline.shipped import find_config
from tests.benchmarks.conditions import versions
from tests.benchmarks.corpora import write_long
from tests.benchmarks.dummy import CONFIG, LAYERS, offer, write_shape
from tests.benchmarks.mfu import FORMULA, PRICES, mfu, modal_name, usd_per_million
from tests.benchmarks.pairs import Run, apart, sets
from tests.benchmarks.results import Figure, arguments_of, finish

LENGTHS = (64, 128, 256, 512, 1024, 2048)
STEP_TOKENS = (4096, 8192, 16_384, 32_768)  # of engine.max_num_batched_tokens
STEP_SEQS = (64, 128, 256, 512)  # of engine.max_num_seqs
AT_TOKENS, AT_SEQS = 512, 64  # lengths at which the steps are compared: long texts fill the one, short ones the other
MARGIN = 1.1  # of the cache of keys and values, over what one step needs
ROW_TOKENS = 256  # of the whole run


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What computes: the name that its driver gives, and Modal's, "" where Modal rents none."""

    name: str
    gpu: str


def find_gpu() -> Device | None:
    """Return the first NVIDIA GPU; None where there is none, or no torch that was built for it."""
    if shutil.which("nvidia-smi") is None or versions().get("torch", "+cpu").endswith("+cpu"):
        return None
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        return None
    name, _, memory_mib = done.stdout.splitlines()[0].rpartition(", ")
    return Device(name=name, gpu=modal_name(name, int(memory_mib)))


def plan(asked: Namespace) -> str:
    """Return in words what would be measured."""
    model = asked.model or f"the shape of {CONFIG} with dummy weights, {asked.layers} of {LAYERS} layers"
    return (
        f"{model}: max_num_batched_tokens {_listed(asked.step_tokens)} with long texts, max_num_seqs "
        f"{_listed(asked.step_seqs)} with short ones, with the best of both tokens/s and MFU at "
        f"{_listed(asked.lengths)} tokens, a whole run of {asked.tokens:,} tokens, and sleep and wake"
    )


class Bench:
    """Runs of one model, each in a fresh process, which are all kept; what does not run is noted and left out."""

    def __init__(self, flags: Sequence[str], asked: Namespace, kv_bytes_per_token: int) -> None:
        self._flags, self._asked, self._kv_bytes = flags, asked, kv_bytes_per_token
        self.runs: dict[str, Any] = {}
        self.notes: list[str] = []

    def sets(self, tokens: int, seqs: int) -> list[str]:
        """Return the flags of a step: the cache of keys and values holds one, where the model has such."""
        keys = {"engine.max_num_batched_tokens": tokens, "engine.max_num_seqs": seqs}
        if self._kv_bytes:
            keys["engine.kv_cache_bytes"] = int(MARGIN * self._kv_bytes * tokens)
        return [*self._flags, *sets(f"{key}={value}" for key, value in keys.items())]

    def engine(self, tokens: int, seqs: int, lengths: Sequence[int]) -> Run | None:
        """Measure the engine alone; None where it does not run."""
        name = f"{tokens} tokens and {seqs} texts a step, texts of {_listed(lengths)}"
        sizes = ["--lengths", *map(str, lengths), "--tokens", str(self._asked.tokens)]
        try:
            found = apart("tests.benchmarks.gpu_engine", *self.sets(tokens, seqs), *sizes)
        except RuntimeError as error:
            self.notes.append(f"Did not run with {name}: {str(error).splitlines()[-1]}")
            return None
        self.runs[name] = found
        for length, each in found["tokens_per_s"].items():  # a whole run takes long: who breaks it off has these
            print(f"{name}: {statistics.median(each):,.0f} tokens/s at {length} tokens", file=sys.stderr, flush=True)
        return found

    def best(self, steps: Sequence[tuple[int, int]], length: int) -> tuple[tuple[int, int], list[Figure]]:
        """Return the fastest step at a length, and a line for each; raises RuntimeError where none runs."""
        found = {step: run for step in steps if (run := self.engine(*step, [length])) is not None}
        if not found:
            raise RuntimeError(f"expected a step that runs, found none of {steps}; {' '.join(self.notes)}")
        rates = {step: statistics.median(run["tokens_per_s"][str(length)]) for step, run in found.items()}
        figures = [
            _rate(f"{tokens} tokens and {seqs} texts a step, texts of {length}", run["tokens_per_s"][str(length)])
            for (tokens, seqs), run in found.items()
        ]
        return max(rates, key=lambda step: rates[step]), figures


def _rate(case: str, rates: Sequence[float], detail: str = "") -> Figure:
    least, most = round(min(rates)), round(max(rates))
    value = round(statistics.median(rates))
    return Figure(case=case, value=value, unit="tokens/s", least=least, most=most, detail=detail)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def at_length(length: int, run: Mapping[str, Any], gpu: str) -> Figure:
    """Return the line of a length: tokens a second, and in words the share of the peak and the price."""
    rates = run["tokens_per_s"][str(length)]
    value = statistics.median(rates)
    share, price = mfu(value, run["flop_per_token"], gpu), usd_per_million(value, gpu)
    shown = f"MFU {100 * share:.1f} %" if share is not None else "MFU not known: no peak"
    paid = f", ${price:.4f} a million tokens" if price is not None else ""
    return _rate(f"texts of {length} tokens", rates, shown + paid)


def whole_run(flags: Sequence[str], n_tokens: int, folder: Path) -> tuple[Run, Figure]:
    """Run the pipeline on about `n_tokens`; return the run, and the line of how busy its engine was."""
    source = write_long(folder / "long.parquet", max(1, n_tokens // ROW_TOKENS), ROW_TOKENS)
    run = apart("tests.benchmarks.ours", source, folder / "out", *flags)
    busy = 100 * run["engine_s"] / run["from_ready_s"]
    speed = run["tokens"] / run["from_ready_s"]
    detail = f"{run['tokens']:,} tokens in {run['from_ready_s']:.1f} s, {speed:,.0f} tokens/s"
    return run, Figure(case="whole run, engine at work", value=round(busy, 1), unit="%", detail=detail)


def sleep_and_wake(flags: Sequence[str]) -> tuple[Run, list[Figure]]:
    """Let an engine sleep and wake; return the run, and a line for each."""
    run = apart("tests.benchmarks.gpu_sleep", *flags)
    asleep_mib = max(each["gpu_asleep_mib"] for each in run["asleep"])
    memory = f"the GPU's memory from {run['gpu_awake_mib']:,} to {asleep_mib:,} MiB"
    vectors = f"vectors after each wake {'the same' if run['same'] else 'ARE OTHERS'}"
    return run, [
        _seconds("the engine falls asleep", [each["sleep_s"] for each in run["asleep"]], memory),
        _seconds("the engine wakes", [each["wake_s"] for each in run["asleep"]], vectors),
    ]


def _seconds(case: str, values: Sequence[float], detail: str) -> Figure:
    least, most = round(min(values), 2), round(max(values), 2)
    return Figure(case=case, value=round(statistics.median(values), 2), unit="s", least=least, most=most, detail=detail)


def named(asked: Namespace, folder: Path) -> tuple[list[str], ModelConfig]:
    """Return the flags that name the model, and what they make of it; a model of one's own keeps its longest text."""
    if asked.model:
        own = sets(asked.set)
        return ["--model", asked.model, *own], read_named(asked.model, asked.set, kind="vllm").config.model
    keys = write_shape(folder, asked.layers) | {"model.max_tokens": max(*asked.lengths, AT_TOKENS)}
    overrides = [*(f"{key}={value}" for key, value in keys.items()), *asked.set]
    offer()
    return ["--config", CONFIG, *sets(overrides)], load_config(find_config(CONFIG), overrides).model


def measure(asked: Namespace, device: Device, folder: Path) -> int:
    """Find the best step, measure the lengths with it, run once, and write the result."""
    flags, model = named(asked, folder)
    bench = Bench(flags, asked, model.kv_bytes_per_token)
    asked.lengths = [length for length in asked.lengths if length <= model.max_tokens]
    at_tokens = min(AT_TOKENS, model.max_tokens)
    (tokens, _), by_tokens = bench.best([(each, max(asked.step_seqs)) for each in asked.step_tokens], at_tokens)
    (_, seqs), by_seqs = bench.best([(tokens, each) for each in asked.step_seqs], AT_SEQS)
    at_all = bench.engine(tokens, seqs, asked.lengths)
    if at_all is None:
        raise RuntimeError(" ".join(bench.notes))
    run, busy = whole_run(bench.sets(tokens, seqs), asked.tokens, folder)
    slept, sleeps = sleep_and_wake(bench.sets(tokens, seqs)) if asked.device == "cuda" else ({}, [])
    by_length = [at_length(length, at_all, device.gpu) for length in asked.lengths]
    return finish(
        asked.folder,
        "gpu",
        f"The engine on {device.name}, and a whole run. Measured was {plan(asked)}. Best: max_num_batched_tokens "
        f"{tokens}, max_num_seqs {seqs}. Token ids are random, in memory; each step in a fresh process, each figure "
        "the median of three calls.",
        [*by_tokens, *by_seqs, *by_length, busy, *sleeps],
        corpora={"whole run": {"rows": run["input_rows"], "tokens": run["tokens"]}},
        runs=bench.runs | {"whole run": run, "sleep": slept},
        notes=[*bench.notes, FORMULA, PRICES],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; without a GPU say what would be, and return 2."""
    parser = arguments_of(__doc__ or "", turns=1)
    parser.add_argument("--model", help="of the hub or a folder, in place of dummy weights")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the benchmark out")
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the dummy; fewer to try the benchmark out")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--step-tokens", type=int, nargs="+", default=STEP_TOKENS)
    parser.add_argument("--step-seqs", type=int, nargs="+", default=STEP_SEQS)
    parser.add_argument("--tokens", type=int, default=500_000, help="of a call, and of the whole run")
    asked = parser.parse_args(arguments)
    device = find_gpu() if asked.device == "cuda" else Device(name="the processor", gpu="")
    if device is None:
        print(
            "gpu: expected an NVIDIA GPU that nvidia-smi shows, and a torch built for it, found none; with both this "
            f"measures {plan(asked)}; --device cpu --layers 1 tries it out",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as folder:
        try:
            return measure(asked, device, Path(folder))
        except RuntimeError as error:
            print(f"gpu: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
