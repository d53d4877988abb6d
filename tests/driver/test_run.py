"""A run, as a user meets it: what lands on disk, what a second run does, what a changed input does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import driver
from pipeline.dataset.store import Store
from pipeline.driver.fan_out import fan_out_here
from pipeline.errors import ConfigError
from tests.support import (
    HASHING,
    embed_corpus,
    ids,
    local_config,
    read_dataset,
    status,
    texts,
    write_jsonl,
    write_parquet,
)
from tests.support.crash import hashing_run

ROWS = texts(3000)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "in/a.parquet", ROWS[:1000], row_group_size=300)
    write_jsonl(tmp_path / "in/sub/b.jsonl", ROWS[1000:2000])
    write_jsonl(tmp_path / "in/c.jsonl.gz", ROWS[2000:])
    return tmp_path / "in"


def run(corpus: Path | str, output: Path, *more: str, code: int = 0) -> str:
    """Run with small chunks; return stdout, or stderr where the run is to fail."""
    done = embed_corpus("run", "--input", corpus, "--output", output, *HASHING, "--set", "run.chunk_tokens=4000", *more)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_every_row_of_every_shard_lands_once(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    assert sorted(ids(tmp_path / "out")) == sorted(row["id"] for row in ROWS)
    found = status(tmp_path / "out")
    assert found["state"] == "complete"
    assert found["input_rows"] == found["embedded_rows"] == found["passages"] == found["embedded_now"] == 3000
    assert found["parts"] > 3
    assert embed_corpus("verify", tmp_path / "out").returncode == 0


def test_a_part_has_the_promised_columns(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", "--dim", "100", "--allow-untrained-dim")
    schema = pq.read_schema(next((tmp_path / "out/data").iterdir()))
    assert [f"{field.name} {field.type}" for field in schema] == [
        "id string",
        "source string",
        "row int64",
        "passage int32",
        "char_start int32",
        "char_end int32",
        "n_tokens int32",
        "truncated bool",
        "content_hash fixed_size_binary[16]",
        "text string",
        "embedding fixed_size_list<element: halffloat>[100]",
    ]


def test_vectors_are_of_unit_length_and_follow_the_text(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    table = read_dataset(tmp_path / "out")
    vectors = np.stack(table.column("embedding").to_pylist()).astype(np.float32)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 2e-3
    assert len(np.unique(vectors, axis=0)) == len(set(table.column("content_hash").to_pylist())) == 3000


def test_a_finished_corpus_costs_no_engine_call_and_no_import_of_one(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/data").iterdir()}
    no_engine = tmp_path / "no_engine"
    for name in ("vllm", "torch"):
        (no_engine / name).mkdir(parents=True)
        (no_engine / name / "__init__.py").write_text("raise SystemExit('an engine was imported')")
    again = embed_corpus(
        "run", "--input", corpus, "--output", tmp_path / "out", *HASHING, env={"PYTHONPATH": str(no_engine)}
    )
    assert again.returncode == 0, again.stderr
    found = status(tmp_path / "out")
    assert (found["engine_calls"], found["embedded_now"], found["state"]) == (0, 0, "complete")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out/data").iterdir()}


def test_the_same_corpus_in_four_formats_gives_the_same_ids_hashes_and_vectors(tmp_path: Path) -> None:
    writers: dict[str, Callable[..., Path]] = {
        "a.parquet": write_parquet,
        "a.jsonl": write_jsonl,
        "a.jsonl.gz": write_jsonl,
        "a.ndjson.zst": write_jsonl,
    }
    tables = []
    for name, write in writers.items():
        write(tmp_path / name / name, ROWS)
        run(tmp_path / name, tmp_path / f"out-{name}")
        tables.append(read_dataset(tmp_path / f"out-{name}").drop_columns(["source"]))
    assert all(table.equals(tables[0]) for table in tables[1:])


def test_rows_that_cannot_be_embedded_are_kept_with_a_reason(tmp_path: Path) -> None:
    lines = [
        b'{"id": "good", "text": "a text"}',
        b'{"id": "null", "text": null}',
        b'{"id": "number", "text": 5}',
        b'{"id": "blank", "text": " "}',
        b'{"id": "broken", "text": ',
        b'{"id": "bytes", "text": "\xff"}',
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    assert "5 rejected" in run(tmp_path / "in.jsonl", tmp_path / "out")
    rejects = pq.read_table(tmp_path / "out/rejects").to_pylist()
    assert [(reject["row"], reject["reason"]) for reject in rejects] == [
        (1, "null_text"),
        (2, "not_a_string"),
        (3, "empty_text"),
        (4, "malformed_json"),
        (5, "invalid_utf8"),
    ]
    assert [reject["id"] for reject in rejects] == ["null", "number", "blank", "in.jsonl:4", "in.jsonl:5"]
    assert ids(tmp_path / "out") == ["good"]
    run(tmp_path / "in.jsonl", tmp_path / "out", "--strict", code=3)


@pytest.mark.parametrize(
    ("on_long", "n_passages", "n_rejected"), [("truncate", 2, 0), ("split", 4, 0), ("reject", 1, 1)]
)
def test_long_texts_follow_the_policy(tmp_path: Path, on_long: str, n_passages: int, n_rejected: int) -> None:
    long = " ".join(f"w{i}" for i in range(25))
    write_jsonl(tmp_path / "in.jsonl", [{"text": "short"}, {"text": long}])
    run(tmp_path / "in.jsonl", tmp_path / "out", "--set", "model.max_tokens=10", "--set", f"corpus.on_long={on_long}")
    found, table = status(tmp_path / "out"), read_dataset(tmp_path / "out")
    assert (found["passages"], found["rejected_rows"], found["truncated"]) == (
        n_passages,
        n_rejected,
        on_long == "truncate",
    )
    if on_long == "split":
        spans = list(zip(table.column("char_start").to_pylist(), table.column("char_end").to_pylist(), strict=True))[1:]
        assert " ".join(long[start:end] for start, end in spans) == long


def test_equal_texts_are_embedded_once_and_keep_their_own_ids(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"id": f"{i}", "text": f"text {i % 3}"} for i in range(30)])
    run(tmp_path / "in.jsonl", tmp_path / "out")
    assert status(tmp_path / "out")["embedded_now"] == 3
    table = read_dataset(tmp_path / "out")
    assert table.column("id").to_pylist() == [f"{i}" for i in range(30)]
    assert len({tuple(vector) for vector in table.column("embedding").to_pylist()}) == 3


def test_kept_columns_come_along(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "year": 1900 + i, "meta": {"lang": "en"}} for i in range(5)]
    write_parquet(tmp_path / "in.parquet", rows)
    run(tmp_path / "in.parquet", tmp_path / "out", "--set", 'corpus.keep=["year", "meta.lang"]')
    table = read_dataset(tmp_path / "out")
    assert table.column("year").to_pylist() == [1900 + i for i in range(5)]
    assert table.column("meta.lang").to_pylist() == ["en"] * 5


def test_a_text_can_be_made_of_several_columns(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"title": "A", "body": "b c"}, {"title": None, "body": "d"}])
    write_jsonl(tmp_path / "b.jsonl", [{"text": "A\nb c"}, {"text": "\nd"}])
    run(tmp_path / "a.jsonl", tmp_path / "out-a", "--set", 'corpus.text="{title}\\n{body}"')
    run(tmp_path / "b.jsonl", tmp_path / "out-b")
    hashes = [read_dataset(tmp_path / out).column("content_hash").to_pylist() for out in ("out-a", "out-b")]
    assert hashes[0] == hashes[1]


def test_limit_embeds_the_first_rows_and_a_later_run_the_rest(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out", "--limit", "1234")
    assert len(ids(tmp_path / "out")) == status(tmp_path / "out")["embedded_now"] == 1234
    run(corpus, tmp_path / "out")
    assert status(tmp_path / "out")["embedded_now"] == 3000 - 1234
    assert sorted(ids(tmp_path / "out")) == sorted(row["id"] for row in ROWS)


def test_a_lost_manifest_loses_nothing(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    before = status(tmp_path / "out")
    (tmp_path / "out/manifest.jsonl").unlink()
    run(corpus, tmp_path / "out")
    after = status(tmp_path / "out")
    assert after["embedded_now"] == 0
    assert {key: after[key] for key in ("parts", "tokens", "embedded_rows")} == {
        key: before[key] for key in ("parts", "tokens", "embedded_rows")
    }
    assert embed_corpus("verify", tmp_path / "out").returncode == 0


def test_a_torn_manifest_line_is_mended_from_the_footers(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    for cut in (1, len(lines[5]) // 2, len(lines[5]) - 1):
        manifest.write_bytes(b"".join(lines[:5]) + lines[5][:cut])
        run(corpus, tmp_path / "out")
        assert status(tmp_path / "out")["embedded_now"] == 0
        assert embed_corpus("verify", tmp_path / "out").returncode == 0


def test_a_torn_record_of_a_run_spoils_no_later_one(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    run(corpus, tmp_path / "out")
    assert status(tmp_path / "out")["state"] == "complete"


def test_a_missing_or_cut_part_is_made_again(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    whole = read_dataset(tmp_path / "out")
    parts = sorted((tmp_path / "out/data").iterdir())
    parts[0].unlink()
    os.truncate(parts[1], 500)
    assert embed_corpus("verify", tmp_path / "out").returncode == 6
    run(corpus, tmp_path / "out")
    assert read_dataset(tmp_path / "out").equals(whole)
    assert embed_corpus("verify", tmp_path / "out").returncode == 0


def test_a_cut_part_leaves_when_others_take_its_place(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    whole = read_dataset(tmp_path / "out")
    os.truncate(min((tmp_path / "out/data").iterdir()), 500)
    run(corpus, tmp_path / "out", "--set", "run.chunk_tokens=1000")
    assert read_dataset(tmp_path / "out").equals(whole)
    assert embed_corpus("verify", tmp_path / "out").returncode == 0


def test_the_output_follows_shards_that_change_come_and_go(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    write_jsonl(corpus / "sub/b.jsonl", ROWS[1500:2000])
    (corpus / "a.parquet").unlink()
    write_jsonl(corpus / "d.jsonl", texts(10, start=5000))
    run(corpus, tmp_path / "out", "--prune")
    expected = [row["id"] for row in ROWS[1500:] + texts(10, start=5000)]
    assert sorted(ids(tmp_path / "out")) == sorted(expected)
    assert embed_corpus("verify", tmp_path / "out").returncode == 0


def test_another_recipe_is_refused_by_the_names_of_its_fields(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    before = read_dataset(tmp_path / "out")
    error = run(corpus, tmp_path / "out", "--set", "model.pooling=last", "--set", "model.max_tokens=99", code=5)
    assert "model.max_tokens is 256, asked for 99; model.pooling is" in error
    (tmp_path / "out/manifest.jsonl").unlink()
    assert "model.pooling is" in run(corpus, tmp_path / "out", "--set", "model.pooling=last", code=5)
    assert read_dataset(tmp_path / "out").equals(before)


def test_what_only_changes_speed_resumes(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    run(corpus, tmp_path / "out", "--set", "engine.batch_passages=7", "--set", "run.chunk_tokens=999")
    assert status(tmp_path / "out")["embedded_now"] == 0


def test_duplicate_ids_are_counted(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "x", "text": "one"}, {"id": "y", "text": "two"}])
    write_jsonl(tmp_path / "in/b.jsonl", [{"id": "x", "text": "three"}, {"id": "x", "text": "four"}])
    run(tmp_path / "in", tmp_path / "out")
    assert status(tmp_path / "out")["duplicate_ids"] == 2
    assert json.loads(embed_corpus("verify", tmp_path / "out", "--json").stdout)["duplicate_ids"] == 2


def test_duplicate_ids_of_many_rows_are_left_to_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("pipeline.driver.run"), "MAX_COUNTED_ROWS", 1)
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "x", "text": "one"}, {"id": "x", "text": "two"}])
    hashing_run(tmp_path / "in", tmp_path / "out")
    assert status(tmp_path / "out")["duplicate_ids"] is None
    assert json.loads(embed_corpus("verify", tmp_path / "out", "--json").stdout)["duplicate_ids"] == 1


def test_a_resumed_run_adds_to_the_manifest(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(20))
    hashing_run(tmp_path / "in", tmp_path / "out")
    before = (tmp_path / "out/manifest.jsonl").read_bytes()
    write_jsonl(tmp_path / "in/b.jsonl", texts(20, start=20))
    hashing_run(tmp_path / "in", tmp_path / "out", run__chunk_tokens=99)
    after = (tmp_path / "out/manifest.jsonl").read_bytes()
    assert after.startswith(before)
    kinds = [json.loads(line)["kind"] for line in after[len(before) :].splitlines()]
    assert kinds == ["dataset", "run", *["receipt"] * (len(kinds) - 3), "run"]
    folded = Store(root=tmp_path / "out").read_manifest()
    assert folded.dataset is not None
    assert folded.dataset.config["run"]["chunk_tokens"] == 99
    assert folded.receipts.keys() == Store(root=tmp_path / "out").part_sizes().keys()


def test_an_output_without_a_part_has_no_recipe_to_keep(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", ROWS[:5])
    # An engine that finds other weights than those named ends the run after the manifest has its first line.
    store = Store(root=tmp_path / "out")
    config = local_config("engine.kind=sentence-transformers", "model.revision=sha256:0")
    with pytest.raises(ConfigError, match="sha256 0"):
        driver.run(str(source), store, config, fan_out=fan_out_here(store))
    assert store.manifest_path.exists()
    run(source, tmp_path / "out")
    assert status(tmp_path / "out")["fingerprint"] in (tmp_path / "out/manifest.jsonl").read_text()
    assert embed_corpus("verify", tmp_path / "out").returncode == 0


def test_a_notice_of_the_licence_is_printed_once(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", ROWS[:5])
    notice = "--set", "model.licence_notice=Read the licence."
    done = embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING, *notice)
    assert done.stderr.splitlines().count("embed-corpus: Read the licence.") == 1
    assert done.stderr.count("Read the licence.") == 1
