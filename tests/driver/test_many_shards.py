"""A chunk holds rows of many shards: small files cost what one file costs, and every promise holds for each of them."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from pipeline.cli import main
from pipeline.dataset.store import Store
from pipeline.driver.inventory import RunOptions
from pipeline.errors import DamageError
from tests.support import by_manifest, embed_corpus, ids, read_dataset, texts, write_jsonl, write_parquet
from tests.support.crash import crashing_command, crashing_run, hashing_run
from tests.support.earlier import as_of_earlier_versions
from tests.support.edits import Corpus
from tests.support.sabotage import FakedCommand

CHUNK: dict[str, Any] = {"run__chunk_tokens": 400}
KEEP = RunOptions(keep_missing=True, prune=True)


def small_files(folder: Path, n_files: int, per_file: int) -> Corpus:
    """Return a corpus of small files of three kinds."""
    kinds = ("jsonl", "parquet", "jsonl.gz")
    files = {f"{i:04}.{kinds[i % 3]}": texts(per_file, start=i * per_file) for i in range(n_files)}
    return Corpus(folder, files)


def sources_of(output: Path) -> list[set[str]]:
    """Return the sources of each part."""
    return [set(receipt.sources) for receipt in Store(root=output).read_manifest().receipts.values()]


def check(corpus: Corpus, output: Path, scratch: Path, **settings: Any) -> None:
    """Expect the very dataset that a run from nothing makes."""
    hashing_run(corpus.root, scratch, **settings)
    assert read_dataset(output).equals(read_dataset(scratch))
    verified = embed_corpus("verify", output, "--input", corpus.root)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_small_files_share_parts_and_a_change_costs_its_own_texts(tmp_path: Path) -> None:
    corpus, output = small_files(tmp_path / "in", 300, 5), tmp_path / "out"
    assert hashing_run(corpus.root, output)["embedded_now"] == 1500
    assert len(sources_of(output)) == 1
    corpus.write("0100.parquet", [texts(1, start=9000)[0], *corpus.files["0100.parquet"][1:]])
    corpus.delete("0200.jsonl.gz")
    told = hashing_run(corpus.root, output)
    assert (told["embedded_now"], told["reused_rows"], told["removed_rows"]) == (1, 1494, 6)
    check(corpus, output, tmp_path / "new")
    assert hashing_run(corpus.root, output)["embedded_now"] == 0


def test_a_change_rewrites_no_part_but_those_with_its_rows(tmp_path: Path) -> None:
    corpus, output = small_files(tmp_path / "in", 60, 5), tmp_path / "out"
    hashing_run(corpus.root, output, **CHUNK)
    before = Store(root=output).read_manifest().receipts
    assert 5 < len(before) < 30
    corpus.write("0030.jsonl", [*corpus.files["0030.jsonl"][:4], *texts(1, start=9000)])
    told = hashing_run(corpus.root, output, **CHUNK)
    after = Store(root=output).read_manifest().receipts
    rewritten = [receipt for part, receipt in before.items() if part not in after]
    assert [receipt for receipt in rewritten if "0030.jsonl" not in receipt.sources] == []
    assert told["embedded_now"] == 1
    check(corpus, output, tmp_path / "new", **CHUNK)


def test_a_touched_file_is_read_again_and_its_part_stays(tmp_path: Path) -> None:
    corpus, output = small_files(tmp_path / "in", 30, 5), tmp_path / "out"
    hashing_run(corpus.root, output, **CHUNK)
    before = set(Store(root=output).read_manifest().receipts)
    corpus.touch("0010.parquet")
    corpus.touch("0011.jsonl.gz")
    assert hashing_run(corpus.root, output, **CHUNK)["embedded_now"] == 0
    assert set(Store(root=output).read_manifest().receipts) == before
    check(corpus, output, tmp_path / "new", **CHUNK)


def test_rows_of_a_file_that_is_gone_stay_although_their_part_is_rewritten(tmp_path: Path) -> None:
    corpus, output = small_files(tmp_path / "in", 30, 5), tmp_path / "out"
    hashing_run(corpus.root, output)
    gone = [row["id"] for row in corpus.files["0010.parquet"]]
    kept = by_manifest(output)
    corpus.delete("0010.parquet")
    corpus.write("0011.jsonl.gz", texts(5, start=9000))
    told = hashing_run(corpus.root, output, KEEP)
    assert (told["embedded_now"], told["removed_rows"]) == (5, 5)
    found = read_dataset(output)
    assert set(gone) < set(found.column("id").to_pylist())
    here = [row for row in found.to_pylist() if row["source"] == "0010.parquet"]
    assert here == [row for row in kept.to_pylist() if row["source"] == "0010.parquet"]
    assert embed_corpus("verify", output).returncode == 0
    assert hashing_run(corpus.root, output, KEEP)["embedded_now"] == 0
    told = hashing_run(corpus.root, output)
    assert (told["embedded_now"], told["removed_rows"]) == (0, 5)
    check(corpus, output, tmp_path / "new")


def test_rows_of_a_file_that_is_gone_never_leave_with_a_damaged_part(tmp_path: Path) -> None:
    corpus, output = small_files(tmp_path / "in", 6, 5), tmp_path / "out"
    hashing_run(corpus.root, output)
    corpus.delete("0001.parquet")
    corpus.write("0002.jsonl.gz", texts(5, start=9000))
    [path] = (output / "data").iterdir()
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match="expected the bytes that were published"):
        hashing_run(corpus.root, output, KEEP)
    assert path.read_bytes() == data


def test_a_file_that_went_bad_keeps_its_rows_although_their_part_is_rewritten(tmp_path: Path) -> None:
    corpus, output = small_files(tmp_path / "in", 30, 5), tmp_path / "out"
    hashing_run(corpus.root, output)
    path = corpus.root / "0010.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    corpus.write("0011.jsonl.gz", texts(5, start=9000))
    told = hashing_run(corpus.root, output, RunOptions(skip_bad_files=True, prune=True))
    assert (told["skipped_files"], told["embedded_now"], told["removed_rows"]) == (("0010.parquet",), 5, 5)
    assert {row["id"] for row in corpus.files["0010.parquet"]} < set(ids(output))
    assert embed_corpus("verify", output).returncode == 0


def test_rows_that_are_carried_over_survive_a_kill_at_any_step(tmp_path: Path) -> None:
    corpus, start = small_files(tmp_path / "in", 4, 2), tmp_path / "start"
    hashing_run(corpus.root, start)
    corpus.delete("0001.parquet")
    corpus.write("0002.jsonl.gz", texts(2, start=9000))
    whole = shutil.copytree(start, tmp_path / "whole")
    steps = crashing_run(corpus.root, whole, None, KEEP).steps
    expected = read_dataset(whole)
    for step in range(len(steps)):
        output = shutil.copytree(start, tmp_path / f"{step}")
        assert crashing_run(corpus.root, output, step, KEEP).killed
        assert hashing_run(corpus.root, output, KEEP)["embedded_now"] <= 2, steps[step]
        assert read_dataset(output).equals(expected), steps[step]
        assert main(["verify", str(output)]) == 0, steps[step]


def test_a_row_that_kills_is_found_among_many_files(tmp_path: Path) -> None:
    for i in range(40):
        row = {"id": f"{i}", "text": f"text {i}" + " POISON" * (i == 23)}
        write = write_jsonl if i % 2 else write_parquet
        write(tmp_path / f"in/{i:02}.{'jsonl' if i % 2 else 'parquet'}", [row])
    faked = FakedCommand(tmp_path / "faked", 'if holds("POISON"): os.kill(os.getpid(), 9)')
    output = tmp_path / "out"
    n_deaths = 0
    while (done := faked.run(tmp_path / "in", output)).returncode != 0:
        assert done.returncode < 0, done.stderr
        n_deaths += 1
    assert 3 <= n_deaths <= 12
    assert sorted(ids(output), key=int) == [str(i) for i in range(40) if i != 23]
    [reject] = pq.read_table(output / "rejects").to_pylist()
    assert (reject["id"], reject["source"], reject["row"]) == ("23", "23.jsonl", 0)
    assert embed_corpus("verify", output, "--input", tmp_path / "in").returncode == 0


@pytest.fixture
def old(tmp_path: Path) -> tuple[Corpus, Path]:
    """Return a corpus and the dataset that an earlier version made of it."""
    corpus, output = small_files(tmp_path / "in", 6, 60), tmp_path / "out"
    for name in sorted(corpus.files):  # one file after the other, so that no part has two
        (tmp_path / "one").mkdir(exist_ok=True)
        shutil.copy2(corpus.root / name, tmp_path / "one" / name)
        hashing_run(tmp_path / "one", output, **CHUNK)
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "one").rename(tmp_path / "in")
    assert {len(sources) for sources in sources_of(output)} == {1}
    as_of_earlier_versions(output)
    return corpus, output


def test_a_dataset_of_an_earlier_version_is_whole_and_costs_nothing(old: tuple[Corpus, Path]) -> None:
    corpus, output = old
    assert embed_corpus("verify", output).returncode == 0
    told = hashing_run(corpus.root, output)
    assert (told["embedded_now"], told["engine_calls"]) == (0, 0)
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0
    corpus.write("0000.jsonl", [*corpus.files["0000.jsonl"][:59], *texts(1, start=9000)])
    assert hashing_run(corpus.root, output)["embedded_now"] == 1
    assert sorted(ids(output)) == sorted(row["id"] for rows in corpus.files.values() for row in rows)
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0


class ManyFiles(RuleBasedStateMachine):
    """Random edits of many small files, with runs and compactions that are killed; who ends sees the dataset of a first
    run."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.n_texts = 1000
        self.corpus = small_files(self.folder / "in", 20, 4)

    def fresh(self, n_rows: int) -> list[dict[str, str]]:
        self.n_texts += n_rows
        return texts(n_rows, start=self.n_texts)

    def some(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.corpus.files)))

    @rule(at=st.integers(0, 40), n_rows=st.integers(0, 30), kind=st.sampled_from(["jsonl", "parquet"]))
    def add(self, at: int, n_rows: int, kind: str) -> None:
        self.corpus.write(f"{at:04}.{kind}", self.fresh(n_rows))

    @rule(data=st.data(), at=st.integers(0, 5))
    def change_a_row(self, data: st.DataObject, at: int) -> None:
        name = self.some(data)
        rows = self.corpus.files[name]
        self.corpus.write(name, [*rows[:at], *self.fresh(1), *rows[at + 1 :]])

    @rule(data=st.data(), n_files=st.integers(1, 6))
    def touch(self, data: st.DataObject, n_files: int) -> None:
        for _ in range(n_files):
            self.corpus.touch(self.some(data))

    @rule(data=st.data(), chance=st.randoms(use_true_random=False))
    def reorder(self, data: st.DataObject, chance: random.Random) -> None:
        name = self.some(data)
        self.corpus.write(name, chance.sample(self.corpus.files[name], len(self.corpus.files[name])))

    @precondition(lambda self: len(self.corpus.files) > 2)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.corpus.delete(self.some(data))

    @rule(data=st.data(), to=st.integers(0, 99))
    def rename(self, data: st.DataObject, to: int) -> None:
        name = self.some(data)
        new = f"{to:04}.{name.partition('.')[2]}"
        if new not in self.corpus.files:
            self.corpus.rename(name, new)

    @rule(step=st.integers(0, 60), chunk_tokens=st.sampled_from([100, 400, 2000]))
    def run_and_die(self, step: int, chunk_tokens: int) -> None:
        crashing_run(self.corpus.root, self.folder / "out", step, run__chunk_tokens=chunk_tokens)

    @rule(step=st.integers(0, 60))
    def compact_and_die(self, step: int) -> None:
        before = by_manifest(self.folder / "out") if self.has_parts() else None
        crashing_command(self.folder / "out", step, "compact", self.folder / "out")
        assert before is None or by_manifest(self.folder / "out").equals(before)

    @precondition(lambda self: self.has_parts())
    @rule()
    def compact(self) -> None:
        before = by_manifest(self.folder / "out")
        assert main(["compact", str(self.folder / "out")]) in (0, 2)  # 2: a run was killed
        assert by_manifest(self.folder / "out").equals(before)

    def has_parts(self) -> bool:
        return bool(Store(root=self.folder / "out").read_manifest().receipts)

    @rule(chunk_tokens=st.sampled_from([100, 400, 2000]))
    def run_and_look(self, chunk_tokens: int) -> None:
        hashing_run(self.corpus.root, self.folder / "out", run__chunk_tokens=chunk_tokens)
        shutil.rmtree(self.folder / "new", ignore_errors=True)
        hashing_run(self.corpus.root, self.folder / "new", run__chunk_tokens=chunk_tokens)
        expected = by_manifest(self.folder / "new")
        assert read_dataset(self.folder / "out").equals(expected)
        assert by_manifest(self.folder / "out").equals(expected)

    def teardown(self) -> None:
        try:
            self.run_and_look(400)
        finally:
            shutil.rmtree(self.folder)


@pytest.mark.parametrize(
    ("examples", "steps"), [(5, 15), pytest.param(60, 60, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_after_any_edits_of_many_files_the_dataset_is_the_one_made_from_nothing(examples: int, steps: int) -> None:
    run_state_machine_as_test(ManyFiles, settings=hypothesis_settings(max_examples=examples, stateful_step_count=steps))
