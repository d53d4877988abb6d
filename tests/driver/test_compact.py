"""Compact: the small parts of a dataset become few, with every row as it was, whatever kills it."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.chunk import ChunkSize
from pipeline.cli import main
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.driver.compact import compact
from pipeline.driver.inventory import RunOptions
from pipeline.driver.size import measured_speed
from tests.support import by_manifest, embed_corpus, read_dataset, status, texts, write_jsonl
from tests.support.crash import crashing_command, crashing_run, hashing_run
from tests.support.earlier import as_of_earlier_versions
from tests.support.edits import Corpus

KEPT = ("size_bytes", "parts", "wall_s", "peak_rss_bytes")  # what a status may say otherwise afterwards


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Return files of three kinds, with a row in each that is rejected."""
    kinds = ("jsonl", "parquet", "jsonl.gz")
    files = {f"{i:02}.{kinds[i % 3]}": [*texts(6, start=6 * i), {"id": f"bad-{i}", "text": " "}] for i in range(12)}
    return Corpus(tmp_path / "in", files)


def of_small_parts(corpus: Corpus, output: Path, chunk_tokens: int = 40) -> Path:
    """Make a dataset of a part or two for each file, as versions did whose parts had rows of one shard alone."""
    whole = corpus.root.rename(output.with_name("whole"))
    for name in sorted(corpus.files):
        corpus.root.mkdir(exist_ok=True)
        (whole / name).rename(corpus.root / name)
        hashing_run(corpus.root, output, run__chunk_tokens=chunk_tokens)
    whole.rmdir()
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
    [size_bytes] = Store(root=output).part_sizes().values()
    line = f"{before['parts']} parts became 1: 84 rows, {size_bytes:,} bytes, 0 engine calls\n"
    assert capfd.readouterr().out == line
    assert (n_parts(output), status(output)["parts"]) == (1, 1)
    assert without(status(output)) == without(before)
    assert read_dataset(output).equals(data)
    order = [("source", "ascending"), ("row", "ascending")]
    assert pq.read_table(output / "rejects").sort_by(order).equals(rejects.sort_by(order))
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0
    files = dates(output)
    assert main(["compact", str(output)]) == 0
    assert capfd.readouterr().out == line.replace(f"{before['parts']} parts became 1", "nothing to join in 1 part")
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


def of_size(monkeypatch: pytest.MonkeyPatch, tokens: int, *, rows: int = 1000, size_bytes: int = 1 << 20) -> None:
    """Let a chunk be of this size."""
    size = ChunkSize(tokens=tokens, rows=rows, size_bytes=size_bytes)
    monkeypatch.setattr(import_module("pipeline.driver.compact"), "size_of", lambda *_: size)


def receipts_of(output: Path) -> dict[str, Receipt]:
    return Store(root=output).read_manifest().receipts


def place(receipt: Receipt) -> tuple[str, int]:
    return receipt.spans[0].source, receipt.spans[0].span.row_start


def test_large_parts_stay_unopened_and_nothing_is_joined_across_them(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    before = receipts_of(output)
    of_size(monkeypatch, 90)
    large = {part for part, receipt in before.items() if receipt.tokens >= 45}
    assert 3 < len(large) < len(before) - 3
    for part in large:
        path = output / "data" / part
        path.write_bytes(path.read_bytes()[::-1])  # one that is opened is seen to be damaged
    dates_of_large = {path: date for path, date in dates(output).items() if path.name in large}
    assert compact(Store(root=output)).damaged == ()
    after = receipts_of(output)
    assert large < set(after)
    assert len(after) < len(before)
    assert dates_of_large.items() <= dates(output).items()
    assert max(receipt.tokens for part, receipt in after.items() if part not in large) <= 90
    assert [*after.values()] == sorted(after.values(), key=place)
    rows = [(each.source, each.span.row_start) for receipt in after.values() for each in receipt.spans]
    assert rows == sorted(rows)
    assert compact(Store(root=output)).joined == 0


@pytest.mark.parametrize("most", [{"rows": 21}, {"size_bytes": 6000}])
def test_a_joined_part_has_no_more_rows_and_bytes_than_a_chunk(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: dict[str, int]
) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    n_before = len(receipts_of(output))
    monkeypatch.setattr(import_module("pipeline.driver.compact"), "width_of", lambda _: 0)  # no bytes for vectors
    of_size(monkeypatch, 1 << 20, **most)
    data = read_dataset(output)
    compact(Store(root=output))
    after = receipts_of(output).values()
    assert 3 < len(after) < n_before
    assert max(receipt.n_rows for receipt in after) <= most.get("rows", 84)
    assert read_dataset(output).equals(data)
    assert compact(Store(root=output)).joined == 0


def test_parts_are_joined_with_their_like_alone(tmp_path: Path) -> None:
    output, options = tmp_path / "out", RunOptions(keep_missing=True)
    for at, (folder, kept) in enumerate([("a", "[]"), ("a", '["n"]'), ("b", '["n"]')]):  # "b": another root
        for number in (2 * at, 2 * at + 1):
            rows = [row | {"n": number} for row in texts(3, start=3 * number)]
            write_jsonl(tmp_path / folder / f"{number}.jsonl", rows)
            hashing_run(tmp_path / folder, output, options, corpus__keep=kept)
            (tmp_path / folder / f"{number}.jsonl").unlink()
    assert n_parts(output) == 6
    before = {part: pq.read_table(output / "data" / part) for part in receipts_of(output)}
    assert compact(Store(root=output)).parts == 3
    for receipt in receipts_of(output).values():
        found = pq.read_table(output / "data" / receipt.part)
        two = [table for table in before.values() if {*table["source"].to_pylist()} <= {*receipt.sources}]
        assert found.equals(pa.concat_tables(sorted(two, key=lambda table: table["source"][0].as_py())))
    assert main(["verify", str(output)]) == 0


def test_the_speed_of_the_engine_stays_known(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=partial(next, itertools.count(0.0, 0.01)), time=time.time)
    monkeypatch.setattr("pipeline.engines.thread.time", clock)
    output = of_small_parts(corpus, tmp_path / "out")
    before = receipts_of(output).values()
    assert measured_speed(before)
    compact(Store(root=output))
    [after] = receipts_of(output).values()
    for name in ("engine_calls", "engine_texts", "engine_s", "reused_rows"):
        assert getattr(after, name) == pytest.approx(sum(getattr(receipt, name) for receipt in before))


def test_a_dataset_of_an_earlier_version_becomes_one_of_few_parts(corpus: Corpus, tmp_path: Path) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    as_of_earlier_versions(output)
    before, data = status(output), read_dataset(output)
    compact(Store(root=output))
    assert n_parts(output) == 1
    assert without(status(output)) == without(before)
    assert read_dataset(output).equals(data)
    told = hashing_run(corpus.root, output)
    assert (told["embedded_now"], told["engine_calls"], told["removed_rows"]) == (0, 0, 0)
    assert n_parts(output) == 1
    corpus.write("00.jsonl", [*corpus.files["00.jsonl"][1:], *texts(1, start=9000)])
    assert hashing_run(corpus.root, output)["embedded_now"] == 1
    assert main(["verify", str(output), "--input", str(corpus.root)]) == 0


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


def test_parts_that_wait_for_the_swap_of_a_run_stay(corpus: Corpus, tmp_path: Path) -> None:
    start = of_small_parts(corpus, tmp_path / "start", chunk_tokens=400)
    path, before = corpus.root / "03.jsonl", (corpus.root / "03.jsonl").stat()
    path.write_text(path.read_text().replace("word", "ward"))  # as long as before
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    rehash = RunOptions(rehash=True, prune=True)
    steps = crashing_run(corpus.root, shutil.copytree(start, tmp_path / "whole"), None, rehash).steps
    output = shutil.copytree(start, tmp_path / "out")
    at = steps.index("os.rename .next/data/part.parquet") + 1
    assert crashing_run(corpus.root, output, at, rehash).killed
    [waits] = (output / ".next").glob("*/data/*.parquet")
    manifest = output / "manifest.jsonl"
    for state in ("started", "incomplete"):
        manifest.write_text(manifest.read_text().replace('"started"', f'"{state}"'))
        files = dates(output)
        assert main(["compact", str(output)]) == 2
        assert dates(output) == files
    assert waits.is_file()


def test_a_manifest_of_another_recipe_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    output, beside = of_small_parts(corpus, tmp_path / "out"), tmp_path / "beside"
    beside.mkdir()
    manifest = output / "manifest.jsonl"
    [own] = {receipt.fingerprint for receipt in receipts_of(output).values()}
    forged = manifest.read_text().replace(f'"fingerprint":"{own}"', '"fingerprint":"../../beside"')
    manifest.write_text(forged)
    assert main(["compact", str(output)]) == 6
    assert beside.is_dir()
    assert manifest.read_text() == forged


def test_damaged_parts_are_named_and_left_where_they_are(
    corpus: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = of_small_parts(corpus, tmp_path / "out")
    before = sorted(receipts_of(output).values(), key=place)
    flipped, cut, gone = (output / "data" / before[at].part for at in (3, 9, 15))
    data = bytearray(flipped.read_bytes())
    data[200] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-20])
    gone.unlink()
    [rejects] = [receipt.part for receipt in before[4:] if receipt.has_rejects and receipt.part != cut.name][:1]
    (output / "rejects" / rejects).unlink()
    damaged = {flipped.name, cut.name, gone.name, rejects}
    assert main(["compact", str(output)]) == 6
    said = capfd.readouterr()
    assert f"{len(before)} parts became 9: 84 rows" in said.out
    assert all(part in said.err for part in damaged)
    assert "left 4 damaged parts as they are" in said.err
    after = receipts_of(output)
    assert damaged < set(after)
    assert flipped.read_bytes() == data
    assert main(["verify", str(output), "--repair"]) == 3
    lost = sum(receipt.embedded_rows for receipt in before if receipt.part in damaged)
    assert hashing_run(corpus.root, output)["embedded_now"] == lost
    assert main(["compact", str(output)]) == 0
    assert n_parts(output) == 1
    assert main(["verify", str(output), "--input", str(corpus.root)]) == 0
