"""Re-embedding: a run costs what changed, and leaves the dataset that a run from nothing would make."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray

from pipeline.driver.inventory import RunOptions
from pipeline.driver.reuse import count_removed
from pipeline.engines.hashing import HashingEmbedder
from pipeline.engines.thread import canary_ids
from pipeline.errors import RemovalError
from tests.support import by_manifest, embed_corpus, ids, local_config, read_dataset, status, texts
from tests.support.crash import crashing_run, hashing_run
from tests.support.edits import Corpus, Row

SEED = 5
CHUNK: dict[str, Any] = {"run__chunk_tokens": 2000}


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect how many texts each call of the engine gets, those of the canary left out."""
    calls: list[int] = []
    real = HashingEmbedder.embed
    canaries = {ids[0] for ids in canary_ids(local_config("engine.kind=hashing"))}

    def counted(self: HashingEmbedder, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        if not canaries & {ids[0] for ids in token_ids}:
            calls.append(len(token_ids))
        return real(self, token_ids)

    monkeypatch.setattr(HashingEmbedder, "embed", counted)
    return calls


def check_as_from_nothing(corpus: Corpus, output: Path, scratch: Path, **settings: Any) -> None:
    """Expect a sound dataset, bit for bit that of a first run."""
    hashing_run(corpus.root, scratch, **settings)
    assert read_dataset(output).equals(read_dataset(scratch))
    verified = embed_corpus("verify", output, "--input", corpus.root)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert not (output / ".next").exists() or not any((output / ".next").iterdir())


@pytest.mark.parametrize("n_rows", [6_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_run_embeds_what_is_new_and_nothing_else(tmp_path: Path, embedded: list[int], n_rows: int) -> None:
    chance = random.Random(SEED)
    per_file = n_rows // 20
    names = [f"{i:02}.{('parquet', 'jsonl', 'jsonl.gz')[i % 3]}" for i in range(20)]
    rows = texts(n_rows)
    corpus = Corpus(tmp_path / "in", {n: rows[i * per_file :][:per_file] for i, n in enumerate(names)})
    output = tmp_path / "out"

    def cost() -> dict[str, Any]:
        embedded.clear()
        return hashing_run(corpus.root, output)

    cost()
    assert sum(embedded) == n_rows

    for name in names:
        corpus.touch(name)
    told = cost()
    assert (sum(embedded), told["kept_rows"], told["reused_rows"], told["removed_rows"]) == (0, n_rows, 0, 0)
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0

    n_changed = n_rows // 100
    changed = set(chance.sample(range(n_rows), n_changed))
    for i, name in enumerate(names):
        here = range(i * per_file, (i + 1) * per_file)
        if changed & set(here):
            corpus.write(
                name, [{**rows[j], "text": f"new {rows[j]['text']}"} if j in changed else rows[j] for j in here]
            )
    told = cost()
    assert sum(embedded) == told["embedded_now"] == told["removed_rows"] == n_changed
    assert told["kept_rows"] + told["reused_rows"] == n_rows - n_changed
    check_as_from_nothing(corpus, output, tmp_path / "changed")

    for name in names[:2]:
        corpus.delete(name)
    for name in names[2:5]:
        corpus.rename(name, f"moved/{name}")
    mixed = corpus.files[names[6]]
    corpus.write(names[6], chance.sample(mixed, len(mixed)))
    corpus.write("added.parquet", texts(50, start=n_rows))
    told = cost()
    assert sum(embedded) == 50
    assert told["removed_rows"] == 2 * per_file
    assert told["reused_rows"] >= 4 * per_file, "and their neighbours in a part"
    assert told["reused_rows"] + told["kept_rows"] == 18 * per_file
    check_as_from_nothing(corpus, output, tmp_path / "edited")


def test_a_plan_counts_no_tokens_for_what_can_be_reused(tmp_path: Path) -> None:
    corpus = small(tmp_path, a=texts(1000))
    hashing_run(corpus.root, tmp_path / "out", **CHUNK)
    corpus.rename("a.jsonl", "b.jsonl")
    plan = ("plan", "--input", corpus.root, "--output", tmp_path / "out", "--json", "--set", "engine.kind=hashing")

    def planned() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(embed_corpus(*plan).stdout)
        return found

    assert (planned()["input_rows"], planned()["tokens"]) == (1000, 0)
    corpus.write("b.jsonl", [*texts(1000, start=1000), *corpus.files["b.jsonl"]])
    whole = json.loads(embed_corpus(*plan[:3], *plan[5:]).stdout)["tokens"]
    assert 0.4 < planned()["tokens"] / whole < 0.6


def small(tmp_path: Path, **files: list[Row]) -> Corpus:
    return Corpus(tmp_path / "in", {f"{name}.jsonl": rows for name, rows in files.items()})


def test_rows_that_are_added_at_the_end_leave_the_other_parts_as_they_are(tmp_path: Path, embedded: list[int]) -> None:
    corpus = small(tmp_path, a=texts(1000))
    hashing_run(corpus.root, tmp_path / "out", **CHUNK)
    before = {path: path.stat().st_ino for path in (tmp_path / "out/data").iterdir()}
    corpus.write("a.jsonl", texts(1010))
    embedded.clear()
    told = hashing_run(corpus.root, tmp_path / "out", **CHUNK)
    assert sum(embedded) == 10
    assert told["kept_rows"] > 800
    after = {path: path.stat().st_ino for path in (tmp_path / "out/data").iterdir()}
    assert len(before.items() & after.items()) == len(before) - 1
    check_as_from_nothing(corpus, tmp_path / "out", tmp_path / "new", **CHUNK)


def test_ids_and_kept_columns_are_refreshed_without_an_engine(tmp_path: Path, embedded: list[int]) -> None:
    rows = [{**row, "tag": "old", "key": f"k{i}"} for i, row in enumerate(texts(300))]
    corpus = small(tmp_path, a=rows)
    keep: dict[str, Any] = {"corpus__keep": '["tag"]'}
    hashing_run(corpus.root, tmp_path / "out", **keep)
    embedded.clear()
    corpus.write("a.jsonl", [{**row, "tag": "new"} for row in rows])
    hashing_run(corpus.root, tmp_path / "out", **keep)
    assert set(read_dataset(tmp_path / "out").column("tag").to_pylist()) == {"new"}
    hashing_run(corpus.root, tmp_path / "out", **keep, corpus__id="key")
    assert sorted(ids(tmp_path / "out")) == sorted(row["key"] for row in rows)
    hashing_run(corpus.root, tmp_path / "out")
    assert "tag" not in read_dataset(tmp_path / "out").column_names
    assert embedded == []


def test_texts_come_and_go_without_an_engine_and_under_the_same_fingerprint(
    tmp_path: Path, embedded: list[int]
) -> None:
    long = {"id": "long", "text": "naïve " * 600}
    corpus, output = small(tmp_path, a=[*texts(300), long, {"id": "bad", "text": " "}]), tmp_path / "out"
    without: dict[str, Any] = {"corpus__store_text": "false", "corpus__on_long": "split"}
    hashing_run(corpus.root, output, **without)
    fingerprint, n_parts = status(output)["fingerprint"], status(output)["parts"]
    assert "text" not in read_dataset(output).column_names
    assert "The passages themselves are not in" in (output / "README.md").read_text()
    embedded.clear()

    told = hashing_run(corpus.root, output, corpus__on_long="split")
    assert (told["reused_rows"], told["removed_rows"]) == (301, 0)
    table = read_dataset(output)
    row_of = {row["id"]: row["text"] for row in [*texts(300), long]}
    columns = table.select(["id", "char_start", "char_end", "text"]).to_pylist()
    assert [row["text"] for row in columns] == [row_of[r["id"]][r["char_start"] : r["char_end"]] for r in columns]
    assert len(table) > 301
    assert status(output)["stored_texts"] == len(table)
    assert "Column `text` has the passages themselves" in (output / "README.md").read_text()
    check_as_from_nothing(corpus, output, tmp_path / "new", corpus__on_long="split")

    embedded.clear()
    assert hashing_run(corpus.root, output, corpus__on_long="split")["kept_rows"] == 301
    hashing_run(corpus.root, output, **without)
    assert "text" not in read_dataset(output).column_names
    assert (status(output)["fingerprint"], status(output)["parts"]) == (fingerprint, n_parts)
    assert embedded == []


def test_the_text_column_stays_one_column_where_it_is_kept_too(tmp_path: Path, embedded: list[int]) -> None:
    corpus, output = small(tmp_path, a=[*texts(20), {"id": "long", "text": "word " * 600}]), tmp_path / "out"
    hashing_run(corpus.root, output)
    before = read_dataset(output)
    embedded.clear()
    assert hashing_run(corpus.root, output, corpus__keep='["text"]')["kept_rows"] == 21
    assert read_dataset(output).equals(before)
    hashing_run(corpus.root, output, corpus__keep='["text"]', corpus__store_text="false")
    after = read_dataset(output)
    assert after.column_names == [{"text": "corpus_text"}.get(name, name) for name in before.column_names]
    assert {len(text) for text in after.column("corpus_text").to_pylist()} >= {len("word " * 600)}
    assert max(len(text) for text in before.column("text").to_pylist()) < len("word " * 600)
    assert embedded == []


def test_a_kept_column_has_one_type_whichever_files_come_and_go(tmp_path: Path, embedded: list[int]) -> None:
    output = tmp_path / "out"
    keep: dict[str, Any] = {"corpus__keep": '["year"]'}
    numbers = pa.table({"text": [f"number {i}" for i in range(50)], "year": range(50)})
    words = pa.table({"text": [f"word {i}" for i in range(50)], "year": [f"in {i}" for i in range(50)]})
    corpus = Corpus(tmp_path / "in", {})
    corpus.root.mkdir()

    def types() -> set[pa.DataType]:
        return {pq.read_schema(path).field("year").type for path in (output / "data").iterdir()}

    pq.write_table(numbers, corpus.root / "a.parquet")
    hashing_run(corpus.root, output, **keep)
    assert types() == {pa.int64()}
    pq.write_table(words, corpus.root / "b.parquet")
    hashing_run(corpus.root, output, **keep)
    assert types() == {pa.string()}
    assert sum(embedded) == 100
    check_as_from_nothing(corpus, output, tmp_path / "both", **keep)
    (corpus.root / "b.parquet").unlink()
    hashing_run(corpus.root, output, **keep)
    assert types() == {pa.int64()}
    check_as_from_nothing(corpus, output, tmp_path / "one", **keep)


@pytest.mark.parametrize(
    "options", [RunOptions(keep_missing=True, prune=True), RunOptions(skip_bad_files=True, prune=True)]
)
def test_rows_that_cannot_be_made_again_stay_when_a_kept_column_changes_its_type(
    tmp_path: Path, options: RunOptions
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    keep: dict[str, Any] = {"corpus__keep": '["year"]'}
    source.mkdir()
    for name in ("a", "b"):
        pq.write_table(
            pa.table({"text": [f"{name} {i}" for i in range(50)], "year": range(50)}), source / f"{name}.parquet"
        )
    hashing_run(source, output, **keep)
    if options.keep_missing:
        (source / "a.parquet").unlink()
    else:
        (source / "a.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"text": ["c"], "year": ["in 1999"]}), source / "c.parquet")
    hashing_run(source, output, options, **keep)
    assert len(ids(output)) == 101


def test_a_change_that_keeps_size_and_date_is_found_by_rehash_alone(tmp_path: Path, embedded: list[int]) -> None:
    corpus = small(tmp_path, a=texts(100))
    output, path = tmp_path / "out", tmp_path / "in/a.jsonl"
    hashing_run(corpus.root, output, **CHUNK)
    embedded.clear()
    path.write_text(path.read_text().replace("word", "wort"))
    corpus.touch_as_before("a.jsonl")
    assert hashing_run(corpus.root, output, **CHUNK)["kept_rows"] == 100
    hashing_run(corpus.root, output, RunOptions(rehash=True), **CHUNK)
    assert sum(embedded) == 100
    check_as_from_nothing(corpus, output, tmp_path / "new", **CHUNK)
    embedded.clear()
    assert hashing_run(corpus.root, output, RunOptions(rehash=True), **CHUNK)["kept_rows"] == 100
    assert embedded == []


def test_keep_missing_keeps_the_rows_of_files_that_are_gone(tmp_path: Path, embedded: list[int]) -> None:
    corpus = small(tmp_path, a=texts(100), b=texts(100, start=100))
    hashing_run(corpus.root, tmp_path / "out")
    corpus.rename("a.jsonl", "c.jsonl")
    embedded.clear()
    told = hashing_run(corpus.root, tmp_path / "out", RunOptions(keep_missing=True, prune=True))
    assert embedded == []
    assert told["duplicate_ids"] == told["reused_rows"] == 100
    assert len(ids(tmp_path / "out")) == 300
    assert hashing_run(corpus.root, tmp_path / "out")["removed_rows"] == 100
    assert len(ids(tmp_path / "out")) == 200


def test_a_limit_on_changed_files_is_refused(tmp_path: Path) -> None:
    corpus = small(tmp_path, a=texts(10), b=texts(10, start=10))
    hashing_run(corpus.root, tmp_path / "out")
    corpus.delete("a.jsonl")
    arguments = ("run", "--input", corpus.root, "--output", tmp_path / "out", "--set", "engine.kind=hashing")
    refused = embed_corpus(*arguments, "--limit", "5")
    assert refused.returncode == 2
    assert "--limit 5" in refused.stderr
    assert len(ids(tmp_path / "out")) == 20


def test_vectors_of_a_damaged_part_are_made_again_instead_of_copied(tmp_path: Path, embedded: list[int]) -> None:
    corpus = small(tmp_path, a=texts(200))
    hashing_run(corpus.root, tmp_path / "out")
    [part] = (tmp_path / "out/data").iterdir()
    column = pq.read_metadata(part).row_group(0).column(9)
    data = bytearray(part.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    part.write_bytes(data)
    corpus.write("a.jsonl", texts(201))
    embedded.clear()
    hashing_run(corpus.root, tmp_path / "out")
    assert sum(embedded) == 201
    check_as_from_nothing(corpus, tmp_path / "out", tmp_path / "new")


@pytest.mark.parametrize("on_long", ["split", "reject"])
def test_long_texts_are_reused_by_their_passages(tmp_path: Path, embedded: list[int], on_long: str) -> None:
    options: dict[str, Any] = {"model__max_tokens": 8, "corpus__on_long": on_long}
    corpus = small(tmp_path, a=texts(300), b=texts(10, start=300))
    hashing_run(corpus.root, tmp_path / "out", **options)
    embedded.clear()
    corpus.write("a.jsonl", [*texts(1, start=900), *corpus.files["a.jsonl"][::-1]])
    hashing_run(corpus.root, tmp_path / "out", **options)
    assert sum(embedded) <= 3  # the passages of one text
    check_as_from_nothing(corpus, tmp_path / "out", tmp_path / "new", **options)
    embedded.clear()
    corpus.write("a.jsonl", corpus.files["a.jsonl"][::-1])
    hashing_run(corpus.root, tmp_path / "out", **options)
    assert embedded == []


def test_another_recipe_is_rebuilt_beside_the_old_one(tmp_path: Path) -> None:
    corpus = small(tmp_path, a=texts(1000))
    output = tmp_path / "out"
    other = {"model__document_prompt": "'passage: '", **CHUNK}
    hashing_run(corpus.root, output, **CHUNK)
    old = read_dataset(output)
    whole = crashing_run(corpus.root, tmp_path / "copy", None, RunOptions(rebuild=True), **CHUNK)
    n_steps = len(whole.steps)
    killed = crashing_run(corpus.root, output, n_steps // 2, RunOptions(rebuild=True), **other)
    assert killed.killed
    assert read_dataset(output).equals(old)
    assert status(output)["state"] == "incomplete"
    n_staged = len(list(output.glob(".next/*/data/part-*.parquet")))
    assert n_staged
    told = hashing_run(corpus.root, output, RunOptions(rebuild=True), **other)
    assert 0 < told["embedded_now"] < 1000
    check_as_from_nothing(corpus, output, tmp_path / "new", **other)
    assert hashing_run(corpus.root, output, RunOptions(rebuild=True), **other)["embedded_now"] == 0


class Edits(RuleBasedStateMachine):
    """Random edits of a corpus with runs that are killed at a random step; whoever ends sees a first run's dataset."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.corpus = Corpus(self.folder / "in", {})
        self.n_texts = 0

    @initialize()
    def begin(self) -> None:
        self.add("a.jsonl", 40)

    def fresh(self, n_rows: int) -> list[Row]:
        self.n_texts += n_rows
        return texts(n_rows, start=self.n_texts)

    def some(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.corpus.files)))

    @rule(name=st.sampled_from(["a.jsonl", "b.parquet", "c.jsonl.gz", "d/e.parquet"]), n_rows=st.integers(0, 60))
    def add(self, name: str, n_rows: int) -> None:
        self.corpus.write(name, self.fresh(n_rows))

    @rule(data=st.data(), at=st.integers(0, 60))
    def change_a_row(self, data: st.DataObject, at: int) -> None:
        name = self.some(data)
        rows = self.corpus.files[name]
        self.corpus.write(name, [*rows[:at], *self.fresh(1), *rows[at + 1 :]])

    @rule(data=st.data(), at=st.integers(0, 60), n_rows=st.integers(1, 20))
    def delete_rows(self, data: st.DataObject, at: int, n_rows: int) -> None:
        name = self.some(data)
        rows = self.corpus.files[name]
        self.corpus.write(name, [*rows[:at], *rows[at + n_rows :]])

    @rule(data=st.data(), n_rows=st.integers(1, 20))
    def append(self, data: st.DataObject, n_rows: int) -> None:
        name = self.some(data)
        self.corpus.write(name, [*self.corpus.files[name], *self.fresh(n_rows)])

    @rule(data=st.data(), chance=st.randoms(use_true_random=False))
    def reorder(self, data: st.DataObject, chance: random.Random) -> None:
        name = self.some(data)
        rows = self.corpus.files[name]
        self.corpus.write(name, chance.sample(rows, len(rows)))

    @rule(data=st.data())
    def duplicate_rows(self, data: st.DataObject) -> None:
        name = self.some(data)
        self.corpus.write(name, [*self.corpus.files[name], *self.corpus.files[self.some(data)][:10]])

    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        self.corpus.touch(self.some(data))

    @precondition(lambda self: len(self.corpus.files) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.corpus.delete(self.some(data))

    @rule(data=st.data(), to=st.sampled_from(["m", "n/o"]))
    def rename(self, data: st.DataObject, to: str) -> None:
        name = self.some(data)
        kind = name.partition(".")[2]
        if f"{to}.{kind}" not in self.corpus.files:
            self.corpus.rename(name, f"{to}.{kind}")

    @rule(step=st.integers(0, 60))
    def run_and_die(self, step: int) -> None:
        crashing_run(self.corpus.root, self.folder / "out", step, run__chunk_tokens=300)

    @rule()
    def run_unasked(self) -> None:
        """A run that may remove few rows does all or nothing."""
        before = by_manifest(self.folder / "out") if (self.folder / "out/manifest.jsonl").exists() else None
        try:
            hashing_run(self.corpus.root, self.folder / "out", RunOptions(), run__chunk_tokens=300)
        except RemovalError:
            assert before is not None
            assert by_manifest(self.folder / "out").equals(before)

    @rule()
    def run_and_look(self) -> None:
        hashing_run(self.corpus.root, self.folder / "out", run__chunk_tokens=300)
        shutil.rmtree(self.folder / "new", ignore_errors=True)
        hashing_run(self.corpus.root, self.folder / "new", run__chunk_tokens=300)
        expected = by_manifest(self.folder / "new")
        assert read_dataset(self.folder / "out").equals(expected)
        assert by_manifest(self.folder / "out").equals(expected)

    def teardown(self) -> None:
        try:
            self.run_and_look()
        finally:
            shutil.rmtree(self.folder)


@pytest.mark.parametrize(
    ("examples", "steps"), [(8, 20), pytest.param(60, 60, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_after_any_edits_and_kills_the_dataset_is_the_one_made_from_nothing(examples: int, steps: int) -> None:
    run_state_machine_as_test(Edits, settings=hypothesis_settings(max_examples=examples, stateful_step_count=steps))


some_texts = st.lists(st.lists(st.sampled_from("abcd"), max_size=5), max_size=3)


@given(some_texts, some_texts)
def test_of_equal_texts_as_many_are_removed_as_are_fewer(old: list[list[str]], new: list[list[str]]) -> None:
    """Each list is a part; a text may be in several rows, and in several parts."""

    def hashes(path: Path) -> NDArray[np.bytes_]:
        return np.array([text.encode() * 16 for text in path.name.removeprefix("_")], "S16")

    before, after = Counter(itertools.chain(*old)), Counter(itertools.chain(*new))
    with patch("pipeline.driver.reuse._hashes", hashes):
        found = count_removed(*([Path("_" + "".join(part)) for part in parts] for parts in (old, new)))
    assert found == (before - after).total()
