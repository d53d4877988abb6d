"""Peers: other programs on the same rows, model and machine, and what is left of their work when they are killed.

python -m tests.benchmarks.peers [--rows 600] [--turns 1] [--only NAME]
"""

from __future__ import annotations

import gzip
import json
import random
import statistics
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import load_config
from pipeline.model import locate, make_tokenizer
from scripts.sample_corpus import FUNCTIONS, build_sample
from tests.benchmarks.conditions import corpus
from tests.benchmarks.corpora import write_texts
from tests.benchmarks.pairs import Run, in_turns
from tests.benchmarks.peers.catalogue import PEERS, Peer
from tests.benchmarks.peers.outputs import Vectors, least_cosine, lost_and_doubled, read
from tests.benchmarks.peers.trial import attempt
from tests.benchmarks.peers.venvs import version_of
from tests.benchmarks.results import Figure, arguments_of, finish
from tests.support import REPOSITORY

ROWS = 600
SEED = 20
WHAT = (
    "The same docstrings from one Parquet file to files, with all-MiniLM-L6-v2, each program in an environment and a "
    "fresh process of its own, in turns. Texts/s are those from the loaded model to the end of the process. Each is "
    "also killed (SIGKILL, all of its processes) once it has embedded half of the rows, and started again."
)


def docstrings(sample: Path, n_rows: int) -> list[str]:
    """Return distinct docstrings of Python's functions, drawn at random."""
    build_sample(sample)
    with gzip.open(sample / FUNCTIONS, "rt") as lines:
        texts = list(dict.fromkeys(json.loads(line)["text"] for line in lines))
    return random.Random(SEED).sample(texts, min(n_rows, len(texts)))


def label(peer: Peer) -> str:
    """Return the name of a peer in the table."""
    return f"{peer.name} ({peer.engine}), {peer.precision}"


def whole(peer: Peer, source: Path, model: Path, vectors: dict[str, Vectors]) -> Run:
    """Run a peer to its end and keep its vectors; return what it took, or its error."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            trial = attempt(peer, source, Path(folder), model)
        except (RuntimeError, OSError) as error:
            return {"error": str(error)}
        written, vectors[label(peer)] = read(Path(folder))
    rate = len(written) / trial.engine_s if trial.engine_s else 0.0
    found = {
        "wall_s": round(trial.wall_s, 2),
        "cpu_s": round(trial.cpu_s, 2),
        "texts_per_s": round(rate, 1),
        "error": trial.error or None,
    }
    print(label(peer), found, file=sys.stderr, flush=True)
    return found


def killed(peer: Peer, source: Path, ids: Sequence[str], model: Path) -> dict[str, Any]:
    """Kill a peer at half of its rows, start it again, and return what that took and what it left."""
    with tempfile.TemporaryDirectory() as folder:
        first = attempt(peer, source, Path(folder), model, kill_at=len(ids) // 2)
        kept, _ = read(Path(folder))
        again = attempt(peer, source, Path(folder), model)
        written, _ = read(Path(folder))
    lost, doubled = lost_and_doubled(ids, written)
    return {
        "texts_embedded_in_total": first.texts + again.texts,
        "before_the_kill": first.texts,
        "rows_there_after_the_kill": len(kept),
        "rows_lost": lost,
        "rows_doubled": doubled,
        "how_it_was_restarted": peer.restart,
        "error": again.error or None,
    }


def record(peer: Peer, runs: Sequence[Run], kill: dict[str, Any] | None, cosine: float | None) -> dict[str, Any]:
    """Return what was found of a peer; without figures and with its error where it could not run."""
    errors = [run["error"] for run in runs if run["error"]]
    of_peer = {"peer": peer.name, "engine": peer.engine, "precision": peer.precision}
    if errors:
        return {**of_peer, "version": "", "wall_s": [], "texts_per_s": None, "error": errors[0]}
    return {
        **of_peer,
        "version": f"{peer.package} {version_of(peer)}",
        "wall_s": [run["wall_s"] for run in runs],
        "cpu_s": [run["cpu_s"] for run in runs],
        "all_texts_per_s": [run["texts_per_s"] for run in runs],
        "texts_per_s": statistics.median(run["texts_per_s"] for run in runs),
        "kill": kill,
        "cosine_to_ours": cosine,
        "error": None,
    }


def figure(found: Mapping[str, Any], n_rows: int) -> Figure:
    """Return the line of a peer."""
    case = f"{found['peer']} ({found['engine']}), {found['precision']}"
    if found["error"]:
        return Figure(case=case, value=0.0, unit="texts/s", detail=f"did not run: {found['error']}")
    wall_s, cpu_s = statistics.median(found["wall_s"]), statistics.median(found["cpu_s"])
    parts = [f"{wall_s:.1f} s and {cpu_s:.1f} s of processors with loading"]
    if kill := found["kill"]:
        times = kill["texts_embedded_in_total"] / n_rows
        parts += [f"killed and started again: {times:.2f} x the texts embedded"]
        parts += [f"{kill['rows_lost']} rows lost, {kill['rows_doubled']} doubled"]
        parts += [f"failed again: {kill['error']}"] if kill["error"] else []
    if found["cosine_to_ours"] is not None:
        parts += [f"least cosine to ours {found['cosine_to_ours']:.4f}"]
    return Figure(
        case=case,
        value=found["texts_per_s"],
        unit="texts/s",
        least=min(found["all_texts_per_s"]),
        most=max(found["all_texts_per_s"]),
        detail="; ".join([*parts, found["version"]]),
    )


def measure(asked: Namespace, folder: Path) -> int:
    """Measure the peers that are asked for, and write the result."""
    config = load_config(REPOSITORY / "configs/local.toml")
    model = locate(config.model)
    texts = docstrings(folder / "sample", asked.rows)
    source = write_texts(folder / "rows.parquet", texts)
    ids = [str(number) for number in range(len(texts))]
    windows = make_tokenizer(config, max_tokens=config.model.max_tokens).windows(texts)
    peers = [peer for peer in PEERS if asked.only.lower() in label(peer).lower()]
    vectors: dict[str, Vectors] = {}
    programs: dict[str, Callable[[], Run]] = {
        label(peer): partial(whole, peer, source, model, vectors) for peer in peers
    }
    runs = in_turns(programs, asked.turns)
    first = next((found for name, found in vectors.items() if name.startswith("ours")), {})
    records = []
    for peer in peers:
        name, sound = label(peer), not any(run["error"] for run in runs[label(peer)])
        kill = killed(peer, source, ids, model) if sound and peer.is_killed else None
        print(name, kill, file=sys.stderr, flush=True)
        records.append(record(peer, runs[name], kill, least_cosine(first, vectors.get(name, {}))))
    return finish(
        asked.folder,
        "peers",
        WHAT,
        [figure(found, len(ids)) for found in records],
        corpora={"docstrings": corpus([len(of_text[0].ids) for of_text in windows])},
        runs={"peers": records},
        problems=[f"ours: {found}" for found in records if found["peer"] == "ours" and not is_whole(found)],
    )


def is_whole(found: Mapping[str, Any]) -> bool:
    """Whether a peer ran, and had each row once after a kill if it was killed."""
    kill = found.get("kill") or dict.fromkeys(("error", "rows_lost", "rows_doubled"))
    return not (found["error"] or kill["error"] or kill["rows_lost"] or kill["rows_doubled"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say, in a folder that is removed afterwards."""
    parser = arguments_of(WHAT, turns=1)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--only", default="", help="a part of the label of those to measure, such as Daft")
    with tempfile.TemporaryDirectory() as folder:
        return measure(parser.parse_args(arguments), Path(folder))


if __name__ == "__main__":
    sys.exit(main())
