"""Where reuse, staging, repair, labels and skipped files meet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.chunk import Shard, ShardSpan, Span, make_chunk
from pipeline.config import load_config
from pipeline.dataset.layout import NEXT
from pipeline.dataset.store import Store
from pipeline.driver.inventory import RunOptions
from pipeline.errors import CorpusError, DamageError, RecipeError
from pipeline.recipe import fingerprint, recipe
from tests.support import REPOSITORY, by_manifest, embed_corpus, ids, read_dataset, status, texts, write_jsonl
from tests.support.crash import crashing_run, hashing_run
from tests.support.edits import Corpus

CHUNK = 400


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    rows = [row | {"key": f"k{i}"} for i, row in enumerate(texts(100))]
    return Corpus(tmp_path / "in", {"a.jsonl": rows})


def swap_step(corpus: Corpus, output: Path, step: str) -> int:
    """Return at which step a run would do something to the output for the first time; the output stays as it is."""
    copy = Path(shutil.copytree(output, output.with_name("copy")))
    steps = crashing_run(corpus.root, copy, None, run__chunk_tokens=CHUNK).steps
    shutil.rmtree(copy)
    return steps.index(step)


@pytest.mark.parametrize("step", ["os.rename manifest.jsonl", "os.remove data/part.parquet"])
def test_a_repair_in_the_middle_of_a_swap_brings_no_row_back(corpus: Corpus, tmp_path: Path, step: str) -> None:
    output = tmp_path / "out"
    hashing_run(corpus.root, output, run__chunk_tokens=CHUNK)
    corpus.write("a.jsonl", texts(40, start=500))
    assert crashing_run(corpus.root, output, swap_step(corpus, output, step), run__chunk_tokens=CHUNK).killed
    assert embed_corpus("verify", output, "--repair").returncode == 3
    hashing_run(corpus.root, output, run__chunk_tokens=CHUNK)
    assert sorted(ids(output)) == sorted(row["id"] for row in corpus.rows)
    assert embed_corpus("verify", output, "--input", corpus.root).returncode == 0


def test_how_much_a_killed_run_left_is_told_as_unknown(corpus: Corpus, tmp_path: Path) -> None:
    n_steps = len(crashing_run(corpus.root, tmp_path / "whole", None, run__chunk_tokens=CHUNK).steps)
    assert crashing_run(corpus.root, tmp_path / "out", n_steps // 2, run__chunk_tokens=CHUNK).killed
    left, whole = status(tmp_path / "out"), status(tmp_path / "whole")
    assert (left["state"], left["missing_chunks"]) == ("incomplete", None)
    assert (whole["state"], whole["missing_chunks"]) == ("complete", 0)


def test_parts_that_wait_with_other_ids_do_not_join(corpus: Corpus, tmp_path: Path) -> None:
    output = tmp_path / "out"
    hashing_run(corpus.root, output, run__chunk_tokens=CHUNK)
    corpus.write("a.jsonl", [*corpus.rows[1:], *corpus.rows[:1]])
    step = swap_step(corpus, output, "open .manifest.jsonl.tmp")
    assert crashing_run(corpus.root, output, step - 4, run__chunk_tokens=CHUNK, corpus__id="key").killed
    assert list(output.glob(f"{NEXT}/*/data/part-*"))
    hashing_run(corpus.root, output, run__chunk_tokens=CHUNK)
    assert sorted(ids(output)) == sorted(row["id"] for row in corpus.rows)


def test_other_ids_are_seen_without_a_manifest(corpus: Corpus, tmp_path: Path) -> None:
    hashing_run(corpus.root, tmp_path / "out")
    (tmp_path / "out/manifest.jsonl").unlink()
    assert hashing_run(corpus.root, tmp_path / "out", corpus__id="key")["embedded_now"] == 0
    assert sorted(ids(tmp_path / "out")) == sorted(row["key"] for row in corpus.rows)


def test_a_file_that_went_bad_keeps_its_rows_and_is_told_each_time(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write("b.jsonl", texts(10, start=500))
    hashing_run(corpus.root, tmp_path / "out")
    (corpus.root / "b.jsonl").write_text('{"body": "x"}\n')
    for _ in range(2):
        told = hashing_run(corpus.root, tmp_path / "out", RunOptions(skip_bad_files=True))
        assert (told["skipped_files"], told["kept_rows"]) == (("b.jsonl",), 110)
        write_jsonl(corpus.root / "c.jsonl", texts(5, start=900))
        told = hashing_run(corpus.root, tmp_path / "out", RunOptions(skip_bad_files=True))
        (corpus.root / "c.jsonl").unlink()
        hashing_run(corpus.root, tmp_path / "out", RunOptions(skip_bad_files=True))
    with pytest.raises(CorpusError, match=r"b\.jsonl"):
        hashing_run(corpus.root, tmp_path / "out")
    assert len(ids(tmp_path / "out")) == 110


def test_a_kept_part_that_is_damaged_ends_a_run_by_its_name(corpus: Corpus, tmp_path: Path) -> None:
    hashing_run(corpus.root, tmp_path / "out")
    [part] = (tmp_path / "out/data").iterdir()
    data = bytearray(part.read_bytes())
    data[200] ^= 255
    part.write_bytes(data)
    corpus.write("b.jsonl", texts(10, start=500))
    with pytest.raises(DamageError, match=part.name):
        hashing_run(corpus.root, tmp_path / "out")


def test_another_recipe_is_refused_when_only_the_parts_tell_the_old_one(corpus: Corpus, tmp_path: Path) -> None:
    hashing_run(corpus.root, tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[20:])
    with pytest.raises(RecipeError, match=r"run\.dim"):
        hashing_run(corpus.root, tmp_path / "out", run__dim=128)


def test_rejects_of_a_part_that_is_made_again_without_any_are_removed(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write("b.jsonl", [{"id": "b", "text": " "}])
    hashing_run(corpus.root, tmp_path / "out")
    store = Store(root=tmp_path / "out")
    [receipt] = [r for r in store.read_manifest().receipts.values() if "b.jsonl" in r.sources]
    table = read_dataset(tmp_path / "out").slice(0, 0)
    store.publish(receipt, table, None, json.dumps(store.recipe_of(receipt.part)))
    assert not store.rejects_path(receipt.part).exists()


def test_vectors_that_lay_ready_are_gone_when_all_is_done(corpus: Corpus, tmp_path: Path) -> None:
    hashing_run(corpus.root, tmp_path / "out")
    corpus.rename("a.jsonl", "c.jsonl")
    corpus.write("c.jsonl", [*corpus.files["c.jsonl"], *texts(3, start=900)])
    assert hashing_run(corpus.root, tmp_path / "out", RunOptions(keep_missing=True))["embedded_now"] == 3
    assert list((tmp_path / "out").rglob("*.arrow")) == []


def test_a_slice_follows_ids_and_what_a_rehash_found(corpus: Corpus, tmp_path: Path) -> None:
    hashing_run(corpus.root, tmp_path / "out")
    cut = ("slice", tmp_path / "out", "--dim", "64", tmp_path / "cut")
    assert embed_corpus(*cut).returncode == 0
    hashing_run(corpus.root, tmp_path / "out", corpus__id="key")
    assert embed_corpus(*cut).returncode == 0
    expected = by_manifest(tmp_path / "out").drop_columns("embedding")
    assert by_manifest(tmp_path / "cut").drop_columns("embedding").equals(expected)
    assert read_dataset(tmp_path / "cut").drop_columns("embedding").equals(expected)


def test_a_slice_touches_no_file_that_it_did_not_make(corpus: Corpus, tmp_path: Path) -> None:
    hashing_run(corpus.root, tmp_path / "out")
    other = tmp_path / "cut/data/train-0.parquet"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    assert embed_corpus("slice", tmp_path / "out", "--dim", "64", tmp_path / "cut").returncode == 2
    assert other.read_text() == "mine"


def test_a_chunk_that_is_cut_keeps_its_salt() -> None:
    from pipeline.corpus.rows import Columns
    from pipeline.driver.cut import halves
    from pipeline.worker.embed import Job

    config = load_config(REPOSITORY / "configs/hashing.toml")
    job = Job(root=Path(), columns=Columns(text=("text",), template=None, id=None), config=config)
    shard = Shard(source="a.parquet", size_bytes=1, mtime_ns=1)
    whole = ShardSpan(shard=shard, span=Span(row_start=0, row_stop=10), last=True, salt="s")
    first, second = halves(make_chunk([whole], fingerprint(recipe(config))), job)
    assert [each.salt for half in (first, second) for each in half.spans] == ["s", "s"]
    half = ShardSpan(shard=shard, span=Span(row_start=0, row_stop=5), last=False)
    assert first.id != make_chunk([half], fingerprint(recipe(config))).id
