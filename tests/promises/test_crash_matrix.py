"""kill -9 before each thing that a run does to the files of its output: nothing is lost, torn or paid for twice."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.dataset.layout import NEXT
from pipeline.dataset.store import Store
from pipeline.driver.inventory import RunOptions
from pipeline.errors import RemovalError
from pipeline.tools.verify import verify
from tests.dataset.test_ours import tree
from tests.support import by_manifest, read_dataset, texts
from tests.support.crash import crashing_command, crashing_run, hashing_run
from tests.support.edits import Corpus

SETTINGS: dict[str, Any] = {"run__chunk_tokens": 400}
WORDS = "A person's words.\n"
REJECTED = [{"id": "bad", "text": " "}]

# What a run does, in the order in which each is first met: a new kind of step belongs on this list.
STEPS = {
    "lock": ["os.mkdir data", "os.mkdir rejects", "open .lock"],
    "attempt": [
        "os.mkdir .attempts",
        "open .attempts/chunk.tmp",
        "os.rename .attempts/chunk.json",
        "os.remove .attempts/chunk.json",
    ],
    "publish": [
        "open rejects/.part.parquet.tmp",
        "os.rename rejects/part.parquet",
        "open data/.part.parquet.tmp",
        "os.rename data/part.parquet",
        "os.remove rejects/.part.parquet.tmp",  # gone by then, unless the writing failed
        "os.remove data/.part.parquet.tmp",
    ],
    "append": ["open manifest.jsonl"],
    "compaction": ["open .manifest.jsonl.tmp", "os.rename manifest.jsonl", "os.remove .manifest.jsonl.tmp"],
    "staging": [
        "os.mkdir .next",
        "os.mkdir .next/ready",
        "open .next/ready/chunk.arrow.tmp",
        "os.rename .next/ready/chunk.arrow",
        "os.remove .next/ready/chunk.arrow.tmp",
        "os.mkdir .next/rejects",
        "open .next/rejects/.part.parquet.tmp",
        "os.rename .next/rejects/part.parquet",
        "os.remove .next/rejects/part.parquet",
        "os.remove .next/rejects/.part.parquet.tmp",
        "os.mkdir .next/data",
        "open .next/data/.part.parquet.tmp",
        "os.rename .next/data/part.parquet",
        "os.remove .next/data/.part.parquet.tmp",
        "open .next/manifest.jsonl",
    ],
    "swap": [  # rejects are copied and parts moved as in "publish", then comes "compaction", then
        "os.remove data/part.parquet",
        "os.remove rejects/part.parquet",
        "os.rmdir .next",
    ],
    "repair": [
        "os.mkdir .trash",
        "os.mkdir .trash/data",
        "os.rename .trash/data/part.parquet",
        "os.mkdir .trash/rejects",
        "os.rename .trash/rejects/part.parquet",
    ],
    "card": ["open .README.md.tmp", "os.rename README.md", "os.remove .README.md.tmp"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A run, and the dataset from which it starts, if any."""

    corpus: Corpus
    start: Path
    readable: bool  # whether readers who go by the manifest see the dataset at the start
    options: RunOptions
    settings: dict[str, Any]


def make_scenario(name: str, folder: Path) -> Scenario:
    files = {
        "a.jsonl": texts(60),
        "b.parquet": [*texts(60, start=60), *REJECTED],
        "c.jsonl": [*texts(60, start=120), *REJECTED],
    }
    corpus = Corpus(folder / "in", files)
    start, settings = folder / "start", dict(SETTINGS)
    if name != "first":
        hashing_run(corpus.root, start, **SETTINGS)
    if name == "changed":
        corpus.rename("c.jsonl", "d.jsonl")
        corpus.write("a.jsonl", [*texts(5, start=500), *corpus.files["a.jsonl"][:50]])
    if name == "rebuilt":
        settings["model__max_tokens"] = 99
    if name == "edited":  # the card by a person, in front of our part and behind it
        card = start / "README.md"
        card.write_text(card.read_text().replace("<!-- embed-corpus", f"{WORDS}<!-- embed-corpus", 1) + WORDS)
        corpus.write("a.jsonl", [*corpus.files["a.jsonl"], *texts(5, start=500)])
    if name == "torn":
        manifest = start / "manifest.jsonl"
        manifest.write_bytes(manifest.read_bytes()[:-300])
        next((start / "data").glob("part-b-*")).unlink()
    return Scenario(
        corpus=corpus,
        start=start,
        readable=name in ("changed", "rebuilt", "edited"),
        options=RunOptions(rebuild=name == "rebuilt", prune=True),
        settings=settings,
    )


def copy(output: Path, to: Path) -> Path:
    if output.exists():
        shutil.copytree(output, to)
    return to


def paid(output: Path, start: Path) -> int:
    """Return how many texts the parts on disk have cost that were not there at the start, staged ones included."""
    stores = [Store(root=output), *(Store(root=path) for path in output.glob(f"{NEXT}/*"))]
    parts = {part: store for store in stores for part in store.part_sizes() if not (start / "data" / part).exists()}
    receipts = [store.receipt_of(part) for part, store in parts.items()]
    return sum(receipt.engine_texts for receipt in receipts if receipt is not None)


def ends(steps: tuple[str, ...]) -> list[int]:
    """Return where each kind of step is met first and where it is met last."""
    last = {step: index for index, step in enumerate(steps)}
    return sorted({*last.values(), *(steps.index(step) for step in last)})


@pytest.mark.parametrize("name", ["first", "changed", "rebuilt", "torn", "edited"])
def test_a_run_that_died_at_any_step_is_gone_on_with(tmp_path: Path, name: str) -> None:
    scenario = make_scenario(name, tmp_path)
    source, start, options, settings = scenario.corpus.root, scenario.start, scenario.options, scenario.settings
    hashing_run(source, tmp_path / "new", **settings)
    after = read_dataset(tmp_path / "new")
    seen = [by_manifest(start), after] if scenario.readable else []
    steps = crashing_run(source, copy(start, tmp_path / "whole"), None, options, **settings).steps
    for step in ends(steps):
        output = copy(start, tmp_path / f"out-{step}")
        assert crashing_run(source, output, step, options, **settings).killed
        assert not seen or any(by_manifest(output).equals(table) for table in seen), steps[step]
        spent = paid(output, start)
        told = hashing_run(source, output, options, **settings)
        assert read_dataset(output).equals(after), steps[step]
        assert by_manifest(output).equals(after), steps[step]
        store = Store(root=output)
        assert verify(store, store.read_manifest()) == ([], 0), steps[step]
        assert (output / "README.md").read_text().count(WORDS) == (2 if name == "edited" else 0), steps[step]
        assert told["embedded_now"] + spent == paid(tmp_path / "whole", start), steps[step]


def test_a_repair_that_died_at_any_step_has_lost_nothing(tmp_path: Path) -> None:
    scenario = make_scenario("repaired", tmp_path)
    source, start = scenario.corpus.root, scenario.start
    expected = read_dataset(start)
    damaged = damage(start)
    steps = crashing_command(*repaired(start, tmp_path / "whole", None)).steps
    for step in ends(steps):
        output = tmp_path / f"out-{step}"
        assert crashing_command(*repaired(start, output, step)).killed
        trash = {path.read_bytes() for path in output.rglob("part-*") if path.is_file()}
        assert trash >= damaged, steps[step]
        assert main(["verify", str(output), "--repair"]) == 3, steps[step]
        hashing_run(source, output, **SETTINGS)
        assert main(["verify", str(output)]) == 0, steps[step]
        assert read_dataset(output).equals(expected), steps[step]


def damage(output: Path) -> set[bytes]:
    """Change a byte of every part of c.jsonl, of which one has rejects; return the damaged files and the rejects."""
    found = set()
    for path in (output / "data").glob("part-c-*"):
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
        found |= {bytes(data)} | {path.read_bytes() for path in (output / "rejects").glob(path.name)}
    return found


def repaired(start: Path, output: Path, kill_at: int | None) -> tuple[Path, int | None, str, str, str]:
    return copy(start, output), kill_at, "verify", "--repair", str(output)


@pytest.mark.parametrize("step", range(3))
def test_a_run_that_is_refused_changes_nothing_wherever_it_dies(tmp_path: Path, step: int) -> None:
    scenario = make_scenario("changed", tmp_path)
    scenario.corpus.delete("b.parquet")
    before = tree(scenario.start)
    with pytest.raises(RemovalError):
        hashing_run(scenario.corpus.root, scenario.start, RunOptions(), **SETTINGS)
    assert tree(scenario.start) == before
    crashing_run(scenario.corpus.root, scenario.start, step, RunOptions(), **SETTINGS)
    assert tree(scenario.start) == before


def test_every_step_is_on_the_list(tmp_path: Path) -> None:
    found: set[str] = set()
    for name in ("first", "changed", "rebuilt"):
        (tmp_path / name).mkdir()
        scenario = make_scenario(name, tmp_path / name)
        ended = crashing_run(scenario.corpus.root, scenario.start, None, scenario.options, **scenario.settings)
        found.update(ended.steps)
    damage(scenario.start)
    found.update(crashing_command(scenario.start, None, "verify", "--repair", str(scenario.start)).steps)
    assert found == {step for steps in STEPS.values() for step in steps}
