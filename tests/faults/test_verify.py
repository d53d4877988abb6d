"""Verify and its repair: every damage is found, and what is dropped comes back exactly as it was."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.chunk import Shard, ShardSpan, Span
from pipeline.cli import main
from pipeline.corpus import parquet
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.driver.fan_out import fan_out_here
from pipeline.driver.run import run
from pipeline.files import file_checksum
from pipeline.tools.verify import verify
from tests.support import (
    HASHING,
    embed_corpus,
    local_config,
    read_dataset,
    status,
    texts,
    write_jsonl,
    write_parquet,
)
from tests.support.crash import hashing_run

CONFIG = local_config("engine.kind=hashing", "run.chunk_tokens=100")
OTHER = ShardSpan(
    shard=Shard(source="b.jsonl", size_bytes=1, mtime_ns=1), span=Span(row_start=0, row_stop=60), last=True
)
ROWS = [{"id": row["id"], "text": None if i % 9 == 4 else row["text"]} for i, row in enumerate(texts(60))]
SEED = 11
NAME = "part-none-0000000000-0123456789abcdef.parquet"  # a name that only a run gives


def embed(corpus: Path, output: Path) -> Store:
    store = Store(root=output)
    assert not run(str(corpus), store, CONFIG, fan_out=fan_out_here(store)).shortfall()
    return store


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "in/a.parquet", ROWS[:30], row_group_size=7)
    write_jsonl(tmp_path / "in/b.jsonl", ROWS[30:])
    return tmp_path / "in"


@pytest.fixture
def store(corpus: Path, tmp_path: Path) -> Store:
    store = embed(corpus, tmp_path / "out")
    assert problems(store) == []
    return store


def problems(store: Store, *, at_rest: bool = True) -> list[tuple[str, str]]:
    return [(problem.kind, problem.path) for problem in verify(store, store.read_manifest(), at_rest=at_rest)[0]]


def told(capfd: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> dict[str, Any]:
    """Return what `verify --json` says when it ends with `code`."""
    assert main(["verify", *map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def rejects(output: Path) -> pa.Table:
    return (
        ds.dataset(output / "rejects", format="parquet")
        .to_table()
        .sort_by([("source", "ascending"), ("row", "ascending")])
    )


def parts(store: Store, folder: str = "data") -> list[Path]:
    return sorted((store.root / folder).glob("*.parquet"))


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("flips", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_every_flipped_bit_is_found_and_repair_and_run_restore_the_dataset(
    corpus: Path, store: Store, flips: int, capfd: pytest.CaptureFixture[str]
) -> None:
    data, rejected = read_dataset(store.root), rejects(store.root)
    chance = random.Random(SEED)
    for number in range(flips):
        path = chance.choice(parts(store, "rejects" if number % 4 == 3 else "data"))
        flip(path, chance.randrange(8 * path.stat().st_size))
        assert ("checksum", f"{path.parent.name}/{path.name}") in problems(store)
        found = told(capfd, 3, store.root, "--repair")
        assert (found["state"], len(found["repaired"])) == ("incomplete", 1)
        assert problems(store) == []
        embed(corpus, store.root)
        assert problems(store) == []
        assert read_dataset(store.root).equals(data)
        assert rejects(store.root).equals(rejected)


def test_repair_drops_what_is_damaged_and_nothing_else(
    corpus: Path, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    data, names = read_dataset(store.root), [path.name for path in parts(store)]
    flip(parts(store)[0], 4000)
    parts(store)[1].unlink()
    rejected = parts(store, "rejects")[-1]
    rejected.unlink()
    found = told(capfd, 6, store.root)
    assert {(p["kind"], p["path"]) for p in found["problems"]} >= {
        ("checksum", f"data/{names[0]}"),
        ("missing", f"data/{names[1]}"),
        ("missing", f"rejects/{rejected.name}"),
    }
    dropped = {names[0], names[1], rejected.name}
    found = told(capfd, 3, store.root, "--repair")
    assert {line.split(":")[0].split("/")[1] for line in found["repaired"]} == dropped
    assert {path.name for path in parts(store)} == set(names) - dropped
    assert store.read_manifest().receipts.keys() == set(names) - dropped
    assert (found["state"], found["missing_chunks"]) == ("incomplete", 3)
    embed(corpus, store.root)
    assert told(capfd, 0, store.root, "--input", corpus)["problems"] == []
    assert read_dataset(store.root).equals(data)


def test_strangers_and_leftovers_are_dropped_and_the_dataset_stays_complete(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    part = parts(store)[0]
    shutil.copy(part, part.with_name("copy.parquet"))
    (store.root / f"data/{NAME}").touch()
    (store.root / f"rejects/{NAME}").touch()
    for path in (".manifest.jsonl", f"data/.{NAME}", f"rejects/.{NAME}"):
        (store.root / f"{path}.7.tmp").touch()
    strange = {
        ("orphan", "data/copy.parquet"),
        ("orphan", f"data/{NAME}"),
        ("orphan", f"rejects/{NAME}"),
        *(("temporary", f"{path}.7.tmp") for path in (".manifest.jsonl", f"data/.{NAME}", f"rejects/.{NAME}")),
    }
    assert {(p["kind"], p["path"]) for p in told(capfd, 6, store.root)["problems"]} == strange
    assert problems(store, at_rest=False) == []
    repaired = told(capfd, 0, store.root, "--repair")["repaired"]
    assert len(repaired) == len(strange)
    assert sum("dropped into .trash/" in line for line in repaired) == 3
    assert told(capfd, 0, store.root)["problems"] == []
    trash = {str(path.relative_to(store.root / ".trash")) for path in (store.root / ".trash").rglob("*.parquet")}
    assert trash == {"data/copy.parquet", f"data/{NAME}", f"rejects/{NAME}"}
    assert (store.root / ".trash/data/copy.parquet").read_bytes() == part.read_bytes()


def test_what_a_crash_leaves_is_no_damage(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    lines = store.manifest_path.read_bytes().splitlines(keepends=True)
    state = [line.replace(b'"complete"', b'"started"') for line in lines]
    kept = [line for line in state if parts(store)[0].name.encode() not in line]
    store.manifest_path.write_bytes(b"".join(kept) + kept[-1][:50])
    (store.root / f"data/.{NAME}.7.tmp").touch()
    assert [p["kind"] for p in told(capfd, 3, store.root)["problems"]] == ["torn", "orphan", "orphan", "temporary"]


def test_repair_leaves_sound_parts_for_the_run_to_name_again(
    corpus: Path, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    before = store.read_manifest().receipts
    for lost in (before.keys(), list(before)[:2]):
        lines = store.manifest_path.read_bytes().splitlines(keepends=True)
        store.manifest_path.write_bytes(
            b"".join(line for line in lines if b'"receipt"' not in line or not any(n.encode() in line for n in lost))
        )
        assert {p["kind"] for p in told(capfd, 6, store.root)["problems"]} == {"orphan"}
        told(capfd, 3, store.root, "--repair")
        outcome = run(str(corpus), store, CONFIG, fan_out=fan_out_here(store))
        assert (outcome.run.state, outcome.run.embedded_now) == ("complete", 0)
        assert store.read_manifest().receipts == before


@pytest.mark.parametrize("damage", ["no dataset line", "another recipe", "no manifest"])
def test_repair_of_a_manifest_without_its_recipe_leaves_every_sound_part_to_the_run(
    corpus: Path, store: Store, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = store.manifest_path.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"mean"', b'"last"') if damage == "another recipe" else b"{}\n"
    store.manifest_path.write_bytes(b"".join(lines))
    if damage == "no manifest":
        store.manifest_path.unlink()
    before = {path: path.stat().st_mtime_ns for path in (*parts(store), *parts(store, "rejects"))}
    told(capfd, 6, store.root)
    told(capfd, 3, store.root, "--repair")
    assert before == {path: path.stat().st_mtime_ns for path in (*parts(store), *parts(store, "rejects"))}
    outcome = run(str(corpus), store, CONFIG, fan_out=fan_out_here(store))
    assert (outcome.run.state, outcome.run.embedded_now) == ("complete", 0)
    assert told(capfd, 0, store.root, "--input", corpus)["problems"] == []


def test_a_repair_of_an_output_that_a_run_holds_is_refused(store: Store) -> None:
    with store.lock():
        assert main(["verify", str(store.root), "--repair"]) == 4


# What the checksum cannot show: parts that were written wrong.


def rewritten(store: Store, change: Callable[[pa.Table], pa.Table], **claims: Any) -> list[str]:
    """Write a part anew, with a receipt that fits it byte for byte, and return the kinds of problems."""
    receipt = next(r for r in store.read_manifest().receipts.values() if r.sources == ("a.parquet",) and r.has_rejects)
    table = change(pq.read_table(store.data_path(receipt.part)))
    receipt = msgspec.structs.replace(receipt, size_bytes=0, checksum="", **claims)
    recipe = json.dumps(store.recipe_of(receipt.part))
    whole = store.publish(receipt, table, pq.read_table(store.rejects_path(receipt.part)), recipe)
    store.append(whole)
    return [kind for kind, path in problems(store) if path.endswith(receipt.part)]


def with_column(name: str, values: Callable[[pa.Array], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        column = table.column(name).combine_chunks()
        return table.set_column(table.column_names.index(name), name, values(column))

    return change


def vectors(change: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    def values(column: pa.Array) -> pa.Array:
        matrix = np.array(column.flatten()).reshape(len(column), -1).copy()
        flat = change(matrix).astype(np.float16).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), len(flat) // len(column))

    return with_column("embedding", values)


def nan(matrix: Any) -> Any:
    matrix[1, 3] = np.nan
    return matrix


def bad_utf8(column: pa.Array) -> pa.Array:
    return pa.array([b"\xff"] * len(column), pa.binary()).view(pa.string())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (vectors(nan), "vector"),
        (vectors(lambda matrix: matrix * 1.01), "vector"),
        (vectors(lambda matrix: matrix * 0), "vector"),
        (vectors(lambda matrix: matrix[:, :100]), "schema"),
        (lambda table: table.drop_columns(["n_tokens"]), "schema"),
        (lambda table: table.drop_columns(["embedding"]), "schema"),
        (with_column("row", lambda column: column.cast(pa.int32())), "schema"),
        (with_column("embedding", lambda c: c.cast(pa.list_(pa.float32(), c.type.list_size))), "schema"),
        (with_column("row", lambda column: pa.array([*range(1000, 1000 + len(column))], pa.int64())), "row"),
        (with_column("row", lambda column: pa.array([column[0].as_py()] * len(column), pa.int64())), "row"),
        (with_column("source", lambda column: pa.array(["other.parquet"] * len(column))), "row"),
        (with_column("passage", lambda column: pa.array([1] * len(column), pa.int32())), "row"),
        (with_column("id", lambda column: pa.array([None] * len(column), pa.string())), "null"),
        (with_column("id", lambda column: pa.array([""] * len(column))), "id"),
        (with_column("id", bad_utf8), "unreadable"),
        (lambda table: table.drop_columns(["text"]), "schema"),
        (with_column("text", lambda column: column.cast(pa.large_string())), "schema"),
        (with_column("text", lambda column: pa.array([None] * len(column), pa.string())), "null"),
        (with_column("text", lambda column: pc.replace_substring(column, "word", "wor")), "text"),
        (with_column("text", lambda column: pc.replace_substring(column, "word", "work")), "text"),
        (with_column("text", lambda c: pa.concat_arrays([c.slice(0, len(c) - 1), pc.utf8_upper(c[-1:])])), "text"),
        (with_column("text", bad_utf8), "unreadable"),
        (with_column("n_tokens", lambda column: pa.array([1000] * len(column), pa.int32())), "count"),
        (with_column("truncated", lambda column: pa.array([True] * len(column))), "count"),
        (lambda table: table.slice(1), "count"),
        (lambda table: pa.concat_tables([table, table]), "row"),
    ],
)  # fmt: skip
def test_a_part_that_was_written_wrong_is_found(
    store: Store, change: Callable[[pa.Table], pa.Table], kind: str
) -> None:
    assert kind in rewritten(store, change)


@pytest.mark.parametrize(
    ("claims", "kind"),
    [
        ({"fingerprint": "0" * 16}, "fingerprint"),
        ({"tokens": 1}, "count"),
        ({"rejected_rows": 0}, "count"),
        ({"input_rows": 1000}, "count"),
        ({"spans": (OTHER,)}, "row"),
        ({"reasons": {"too_long": 1}}, "reason"),
    ],
)
def test_a_receipt_that_claims_something_else_is_found(store: Store, claims: dict[str, Any], kind: str) -> None:
    assert kind in rewritten(store, lambda table: table, **claims)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (with_column("reason", lambda column: pa.array(["because"] * len(column))), "reason"),
        (lambda table: pa.concat_tables([table, table]).slice(0, len(table) + 1), "row"),
        (lambda table: pa.concat_tables([table.slice(0, 1)] * len(table)), "row"),
        (with_column("row", lambda column: pa.array([*range(10_000, 10_000 + len(column))], pa.int64())), "row"),
        (lambda table: table.slice(1), "count"),
    ],
)  # fmt: skip
def test_rejects_that_were_written_wrong_are_found(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], kind: str
) -> None:
    store = Store(root=tmp_path / "out")
    hashing_run(write_jsonl(tmp_path / "in.jsonl", ROWS), store.root)
    [receipt] = store.read_manifest().receipts.values()
    assert receipt.rejected_rows > 2
    table = change(pq.read_table(store.rejects_path(receipt.part)))
    recipe = json.dumps(store.recipe_of(receipt.part))
    receipt = msgspec.structs.replace(receipt, size_bytes=0, checksum="", rejects_checksum="", reasons={})
    store.append(store.publish(receipt, pq.read_table(store.data_path(receipt.part)), table, recipe))
    assert kind in [found for found, path in problems(store) if path == f"rejects/{receipt.part}"]


def test_a_part_of_another_receipt_is_found(store: Store) -> None:
    receipts = [r for r in store.read_manifest().receipts.values() if r.sources == ("a.parquet",)]
    first, second = receipts[:2]
    shutil.copy(store.data_path(second.part), store.data_path(first.part))
    size, found = store.data_path(first.part).stat().st_size, file_checksum(store.data_path(first.part))
    store.append(msgspec.structs.replace(first, size_bytes=size, checksum=found))
    assert {"receipt", "row"} <= {kind for kind, path in problems(store) if path == f"data/{first.part}"}


def test_two_parts_with_the_same_rows_are_found_and_one_is_dropped(
    corpus: Path, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    receipt = next(iter(store.read_manifest().receipts.values()))
    other = msgspec.structs.replace(receipt, part="part-twice.parquet", has_rejects=False, rejected_rows=0)
    other = msgspec.structs.replace(
        other, input_rows=other.embedded_rows, size_bytes=0, checksum="", rejects_checksum=""
    )
    table, recipe = pq.read_table(store.data_path(receipt.part)), json.dumps(store.recipe_of(receipt.part))
    store.append(store.publish(other, table, None, recipe))
    assert problems(store) == [("overlap", "data/part-twice.parquet")]
    told(capfd, 3, store.root, "--repair")
    embed(corpus, store.root)
    assert told(capfd, 0, store.root, "--input", corpus)["problems"] == []


# With the input beside it.


def test_every_row_of_the_input_is_there_or_rejected_whatever_the_format(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "in/a.parquet", ROWS, row_group_size=7)
    for name in ("b.jsonl", "c.jsonl.gz", "d.ndjson.zst"):
        write_jsonl(tmp_path / "in" / name, ROWS)
    (tmp_path / "in/e.jsonl").write_bytes(b'\xef\xbb\xbf\n \n{"text": "a"}\n\t\r\n{\n\n{"text": "b"}')
    (tmp_path / "in/empty.jsonl").touch()
    embed(tmp_path / "in", tmp_path / "out")
    assert told(capfd, 0, tmp_path / "out", "--input", tmp_path / "in")["problems"] == []


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_rows_that_a_part_lacks_or_has_too_many_of_are_found(
    corpus: Path, store: Store, block: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parquet, "BLOCK_ROWS", block)
    receipt = next(r for r in store.read_manifest().receipts.values() if r.spans[0].span.row_start == 0)
    lacking = msgspec.structs.replace(
        receipt, embedded_rows=receipt.embedded_rows - 1, passages=receipt.passages - 1,
        input_rows=receipt.input_rows - 1, size_bytes=0, checksum="",
    )  # fmt: skip
    table = pq.read_table(store.data_path(receipt.part))
    lacking = msgspec.structs.replace(lacking, tokens=lacking.tokens - table.column("n_tokens")[1].as_py())
    table = pa.concat_tables([table.slice(0, 1), table.slice(2)])
    rejected = pq.read_table(store.rejects_path(receipt.part)) if receipt.has_rejects else None
    store.append(store.publish(lacking, table, rejected, json.dumps(store.recipe_of(receipt.part))))
    assert problems(store) == []  # the files alone agree
    found = told(capfd, 6, store.root, "--input", corpus)["problems"]
    assert [(p["kind"], p["path"]) for p in found] == [("row", f"data/{receipt.part}")]
    assert "1 rows of" in found[0]["detail"]
    told(capfd, 3, store.root, "--input", corpus, "--repair")
    embed(corpus, store.root)
    assert told(capfd, 0, store.root, "--input", corpus)["problems"] == []


@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_part_that_is_gone_with_its_line_is_missed(
    corpus: Path, store: Store, lost: int, capfd: pytest.CaptureFixture[str]
) -> None:
    part = parts(store)[lost]
    receipt: Receipt = store.read_manifest().receipts[part.name]
    lines = store.manifest_path.read_bytes().splitlines(keepends=True)
    store.manifest_path.write_bytes(b"".join(line for line in lines if part.name.encode() not in line))
    store.remove(part.name)
    assert problems(store) == []
    [found] = told(capfd, 6, store.root, "--input", corpus)["problems"]
    assert (found["kind"], found["path"]) == ("lost", str(corpus / receipt.sources[0]))
    assert f"{receipt.input_rows} rows from row {receipt.spans[0].span.row_start}" in found["detail"]
    told(capfd, 3, store.root, "--input", corpus, "--repair")
    embed(corpus, store.root)
    assert told(capfd, 0, store.root, "--input", corpus)["problems"] == []


def test_an_input_that_went_on_is_told_and_is_no_damage(
    corpus: Path, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(corpus / "b.jsonl", ROWS)
    write_jsonl(corpus / "new.jsonl", ROWS[:3])
    (corpus / "a.parquet").unlink()
    found = told(capfd, 3, store.root, "--input", corpus)["problems"]
    assert {(p["kind"], Path(p["path"]).name) for p in found} == {
        ("outdated", "b.jsonl"),
        ("outdated", "new.jsonl"),
        ("outdated", "a.parquet"),
    }
    embed(corpus, store.root)
    told(capfd, 0, store.root, "--input", corpus)


def test_an_input_that_cannot_be_read_is_refused(store: Store, corpus: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (corpus / "c.parquet").write_bytes(b"PAR1")
    assert main(["verify", str(store.root), "--input", str(corpus)]) == 2
    assert "c.parquet" in capfd.readouterr().err


def test_a_wrong_digit_in_the_manifest_costs_no_part(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", texts(300))
    run = ("run", "--input", source, "--output", tmp_path / "out", *HASHING)
    assert embed_corpus(*run).returncode == 0
    manifest = tmp_path / "out/manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"tokens":', '"tokens":1'))
    assert embed_corpus("verify", tmp_path / "out").returncode == 6
    assert "mended in the manifest" in embed_corpus("verify", tmp_path / "out", "--repair").stdout
    assert embed_corpus("verify", tmp_path / "out").returncode == 0
    assert embed_corpus(*run).returncode == 0
    assert status(tmp_path / "out")["embedded_now"] == 0


@pytest.mark.parametrize(("option", "code"), [(("--keep-missing",), 0), (("--limit", "100"), 3)])
def test_rows_that_were_to_be_kept_or_left_out_are_no_damage(
    tmp_path: Path, option: tuple[str, ...], code: int
) -> None:
    for name in "ab":
        write_jsonl(tmp_path / f"in/{name}.jsonl", texts(100, start=ord(name)))
    run = ("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    if option == ("--keep-missing",):
        assert embed_corpus(*run).returncode == 0
        (tmp_path / "in/a.jsonl").unlink()
    assert embed_corpus(*run, *option).returncode == 0
    assert embed_corpus("verify", tmp_path / "out", "--input", tmp_path / "in").returncode == code
