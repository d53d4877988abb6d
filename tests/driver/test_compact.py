"""Compact: the small parts of a dataset become few, with every row as it was, whatever kills it."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.dataset.store import Store
from pipeline.driver.compact import compact
from pipeline.driver.inventory import RunOptions
from tests.support import by_manifest, embed_corpus, read_dataset, status, texts
from tests.support.crash import crashing_command, hashing_run
from tests.support.edits import Corpus

KEPT = ("parts", "wall_s", "peak_rss_bytes")  # what a status may say otherwise afterwards


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Return files of three kinds, with a row in each that is rejected."""
    kinds = ("jsonl", "parquet", "jsonl.gz")
    files = {f"{i:02}.{kinds[i % 3]}": [*texts(6, start=6 * i), {"id": f"bad-{i}", "text": " "}] for i in range(12)}
    return Corpus(tmp_path / "in", files)


def of_small_parts(corpus: Corpus, output: Path, chunk_tokens: int = 40) -> Path:
    """Make a dataset of a part or two for each file, as versions did whose parts had rows of one shard alone."""
    one = output.with_name("one")
    for name in sorted(corpus.files):
        one.mkdir(exist_ok=True)
        shutil.copy2(corpus.root / name, one / name)
        hashing_run(one, output, run__chunk_tokens=chunk_tokens)
    shutil.rmtree(corpus.root)
    one.rename(corpus.root)
    return output


def without(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in KEPT}


def n_parts(output: Path) -> int:
    return len(Store(root=output).part_sizes())


def dates(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file() and path.name != ".lock"}


def test_few_parts_have_every_row_as_it_was(corpus: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    before, data, rejects = status(output), read_dataset(output), pq.read_table(output / "rejects")
    assert before["parts"] > 20
    assert main(["compact", str(output)]) == 0
    assert capfd.readouterr().out == f"{before['parts']} parts are 1 now: 84 rows, no text embedded\n"
    assert (n_parts(output), status(output)["parts"]) == (1, 1)
    assert without(status(output)) == without(before)
    assert read_dataset(output).equals(data)
    order = [("source", "ascending"), ("row", "ascending")]
    assert pq.read_table(output / "rejects").sort_by(order).equals(rejects.sort_by(order))
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0
    files = dates(output)
    assert main(["compact", str(output)]) == 0
    assert "no part is too small" in capfd.readouterr().out
    assert dates(output) == files


def test_a_run_over_a_compacted_dataset_pays_for_what_changed_alone(corpus: Corpus, tmp_path: Path) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    corpus.touch("03.jsonl")
    assert hashing_run(corpus.root, output)["embedded_now"] == 0
    compact(Store(root=output))
    told = hashing_run(corpus.root, output)
    assert (told["embedded_now"], told["reused_rows"], told["engine_calls"]) == (0, 0, 0)
    corpus.write("05.jsonl.gz", [*corpus.files["05.jsonl.gz"][:5], *texts(1, start=9000)])
    corpus.delete("07.parquet")
    assert hashing_run(corpus.root, output, RunOptions(prune=True))["embedded_now"] == 1
    hashing_run(corpus.root, tmp_path / "new")
    assert read_dataset(output).equals(read_dataset(tmp_path / "new"))
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0


@pytest.mark.parametrize("goes_on_with", ["compact", "run"])
def test_a_kill_at_any_step_loses_and_doubles_nothing(corpus: Corpus, tmp_path: Path, goes_on_with: str) -> None:
    for name in sorted(corpus.files)[3:]:
        corpus.delete(name)
    start = of_small_parts(corpus, tmp_path / "start", chunk_tokens=400)
    data = read_dataset(start)
    steps = crashing_command(shutil.copytree(start, tmp_path / "whole"), None, "compact", tmp_path / "whole").steps
    assert len(steps) > 20
    for step, name in enumerate(steps):
        output = shutil.copytree(start, tmp_path / f"{step}")
        assert crashing_command(output, step, "compact", output).killed
        assert by_manifest(output).equals(data), name
        assert status(output)["state"] == "complete", name
        if goes_on_with == "compact":
            assert main(["compact", str(output)]) == 0
            assert n_parts(output) == 1, name
        else:
            told = hashing_run(corpus.root, output)
            assert (told["embedded_now"], told["removed_rows"]) == (0, 0), name
        assert read_dataset(output).equals(data), name
        assert main(["verify", str(output), "--input", str(corpus.root)]) == 0, name
        shutil.rmtree(output)


def test_large_parts_are_left_alone(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    monkeypatch.setattr("pipeline.driver.size.UNMEASURED", (50, 50))
    monkeypatch.setattr(import_module("pipeline.driver.compact"), "measured_speed", lambda _: 0.0)
    receipts = Store(root=output).read_manifest().receipts
    before = dates(output)
    paths = [output / "data" / part for part, receipt in receipts.items() if receipt.tokens >= 25]
    large = {path: before[path] for path in paths}
    assert 0 < len(large) < len(receipts)
    compact(Store(root=output))
    after = Store(root=output).read_manifest().receipts
    assert len(after) < len(receipts)
    assert large.items() <= dates(output).items()
    assert max(receipt.tokens for part, receipt in after.items() if output / "data" / part not in large) <= 50


def test_what_a_run_has_not_finished_or_nobody_made_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    manifest = output / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"complete"', b'"started"'))
    assert main(["compact", str(output)]) == 2
    manifest.write_bytes(whole)
    with Store(root=output).lock():
        assert main(["compact", str(output)]) == 4
    assert main(["compact", str(corpus.root)]) == 2
    assert manifest.read_bytes() == whole


def test_a_part_that_is_damaged_stops_it(corpus: Corpus, tmp_path: Path) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    path = sorted((output / "data").iterdir())[3]
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    before = Store(root=output).read_manifest().receipts
    assert main(["compact", str(output)]) == 6
    assert Store(root=output).read_manifest().receipts == before
    assert embed_corpus("verify", output, "--repair").returncode == 3
    assert hashing_run(corpus.root, output)["embedded_now"] <= 6
    assert main(["compact", str(output)]) == 0
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0
