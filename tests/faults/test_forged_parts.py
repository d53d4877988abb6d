"""Parts, receipts and manifests that say what cannot be: none of it is believed, and each command says so in a line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.footer import RECEIPT_KEY, RECIPE_KEY
from pipeline.dataset.store import Store
from pipeline.recipe import fingerprint
from tests.support import HASHING, read_dataset, texts, write_jsonl
from tests.support.crash import hashing_run
from tests.support.many import Call, run_all

ENDS_AFTER_S = 240
CODES = (0, 2, 3, 5, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A sound dataset of one part, and its corpus."""

    source: Path
    output: Path

    @property
    def part(self) -> str:
        """Name of the part."""
        return next(iter(Store(root=self.output).part_sizes()))

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.output, to)
        return to


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    folder = tmp_path_factory.mktemp("forged")
    source = write_jsonl(folder / "in/a.jsonl", [*texts(20), {"id": "bad", "text": " "}])
    hashing_run(source, folder / "out")
    return Sound(source=source, output=folder / "out")


def check_line(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode in CODES, (done.args, done.returncode, done.stderr)
    assert "unexpected" not in done.stderr, (done.args, done.stderr)
    assert "please report" not in done.stderr, (done.args, done.stderr)
    assert len(done.stderr.splitlines()) <= 2, (done.args, done.stderr)


SHARD = {"source": "a.jsonl", "size_bytes": 1, "mtime_ns": 1}


def without(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([name])


def cast(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, table.column(name).cast(kind))


def narrow(table: pa.Table) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.nulls(len(table) * 3, pa.float16()), 3)
    return table.drop_columns(["embedding"]).append_column("embedding", vectors)


def footer(key: bytes, value: bytes | None) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        found = dict(table.schema.metadata)
        found.pop(key)
        return table.replace_schema_metadata(found | ({key: value} if value is not None else {}))

    return change


def receipt(**changes: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        found = json.loads(table.schema.metadata[RECEIPT_KEY]) | changes
        return table.replace_schema_metadata(table.schema.metadata | {RECEIPT_KEY: json.dumps(found).encode()})

    return change


def of_span(span: Any) -> Callable[[pa.Table], pa.Table]:
    return receipt(spans=[{"shard": SHARD, "span": span, "last": True}])


def of_one_shard(span: Any) -> Callable[[pa.Table], pa.Table]:
    return receipt(spans=[], source="a.jsonl", shard_size_bytes=1, shard_mtime_ns=1, span=span, last=True)


def recipe(**changes: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        found = json.loads(table.schema.metadata[RECIPE_KEY])
        found |= {key.replace("__", "."): value for key, value in changes.items()}
        return table.replace_schema_metadata(table.schema.metadata | {RECIPE_KEY: json.dumps(found).encode()})

    return change


def both(*changes: Callable[[pa.Table], pa.Table]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        for each in changes:
            table = each(table)
        return table

    return change


PARTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "without vectors": without("embedding"),
    "without content hashes": without("content_hash"),
    "without ids": without("id"),
    "without its texts": without("text"),
    "of large texts": cast("text", pa.large_string()),
    "of other types": cast("row", pa.int32()),
    "of large strings": cast("id", pa.large_string()),
    "of float32": cast("embedding", pa.list_(pa.float32(), 384)),
    "of vectors of another width": narrow,
    "of another width, as its own recipe says": both(narrow, recipe(run__dim=3)),
    "with a row less": lambda table: table.slice(1),
    "without rows": lambda table: table.slice(0, 0),
    "with its rows twice": lambda table: pa.concat_tables([table, table]),
    "without a recipe": footer(RECIPE_KEY, None),
    "with a list for a recipe": footer(RECIPE_KEY, b"[1]"),
    "with no JSON for a recipe": footer(RECIPE_KEY, b"{"),
    "with bytes for a recipe": footer(RECIPE_KEY, b"\xff"),
    "with an empty recipe": footer(RECIPE_KEY, b"{}"),
    "with a width in words": recipe(run__dim="384"),
    "with a width of 10**30": recipe(run__dim=10**30),
    "with a recipe a hundred thousand deep": footer(RECIPE_KEY, b'{"a":' + b"[" * 100_000),
    "with 10**30 rows": receipt(input_rows=10**30, embedded_rows=10**30),
    "with 2**62 rows": receipt(input_rows=2**62, embedded_rows=2**62, rejected_rows=0),
    "with rows that are not the sum": receipt(input_rows=7),
    "with a negative span": of_span({"row_start": -5, "row_stop": 16}),
    "with a span that is turned around": of_span({"row_start": 21, "row_stop": 0}),
    "with a span of 2**70 rows": of_span({"row_start": 0, "row_stop": 2**70}),
    "with no span": of_span(None),
    "with no spans": receipt(spans=[]),
    "with spans that are none": receipt(spans=[None, 1]),
    "of an earlier version with a negative span": of_one_shard({"row_start": -5, "row_stop": 16}),
    "of an earlier version with no span": of_one_shard(None),
}


def test_a_part_is_adopted_only_with_what_its_receipt_says(sound: Sound, tmp_path: Path) -> None:
    outputs = {name: sound.copy(tmp_path / str(n)) for n, name in enumerate(PARTS)}
    for name, output in outputs.items():
        path = output / "data" / sound.part
        pq.write_table(PARTS[name](pq.read_table(path)), path)
        (output / "manifest.jsonl").unlink()
    changed = sound.copy(tmp_path / "changed")  # and its manifest stays
    path = changed / "data" / sound.part
    pq.write_table(without("row")(pq.read_table(path)), path)
    [covered] = run_all([Call(("verify", changed, "--input", sound.source))], timeout_s=ENDS_AFTER_S)
    assert covered.returncode == 6, covered.stderr
    run = ("run", "--input", sound.source, *HASHING, "--output")
    calls = [Call(each) for output in outputs.values() for each in ((*run, output), ("verify", output))]
    done = run_all(calls, timeout_s=ENDS_AFTER_S)
    for ran, verified in zip(done[::2], done[1::2], strict=True):
        assert ran.returncode == 0, (ran.args, ran.stderr)
        assert "embedded 20 texts" in ran.stdout, (ran.args, ran.stdout)
        assert verified.returncode == 0, (verified.args, verified.stdout)
    for output in outputs.values():
        assert read_dataset(output).equals(read_dataset(sound.output))


def test_a_sound_part_is_adopted(sound: Sound, tmp_path: Path) -> None:
    output = sound.copy(tmp_path / "out")
    (output / "manifest.jsonl").unlink()
    assert hashing_run(sound.source, output)["embedded_now"] == 0


Lines = list[dict[str, Any]]


def set_in(kind: str, *path: str | int, to: Any) -> Callable[[Lines], None]:
    """Return a change of the lines of one kind: what is at a path of keys becomes something else; None removes it."""

    def change(lines: Lines) -> None:
        for line in lines:
            if line["kind"] == kind:
                *before, last = path
                place: Any = line
                for key in before:
                    place = place[key]
                if to is None:
                    del place[last]
                else:
                    place[last] = to

    return change


MANIFESTS: dict[str, Callable[[Lines], None]] = {
    "an empty recipe": set_in("dataset", "recipe", to={}),
    "a list for a recipe": set_in("dataset", "recipe", to=[1]),
    "no recipe": set_in("dataset", "recipe", to=None),
    "an empty config": set_in("dataset", "config", to={}),
    "words for a config": set_in("dataset", "config", to="config"),
    "a config without a model": set_in("dataset", "config", "model", to=None),
    "a config with a number for a model": set_in("dataset", "config", "model", to=7),
    "a config with a number for a run": set_in("dataset", "config", "run", to=7),
    "a config without a licence": set_in("dataset", "config", "model", "licence", to=None),
    "dims in words": set_in("dataset", "config", "model", "dims", to="384"),
    "a width in words": set_in("dataset", "recipe", "run.dim", to="384"),
    "a width that is true": set_in("dataset", "recipe", "run.dim", to=True),
    "a negative width": set_in("dataset", "recipe", "run.dim", to=-384),
    "a width of 10**30": set_in("dataset", "recipe", "run.dim", to=10**30),
    "no width": set_in("dataset", "recipe", "run.dim", to=None),
    "10**30 rows": set_in("receipt", "input_rows", to=10**30),
    "2**62 rows": set_in("receipt", "input_rows", to=2**62),
    "a negative number of rows": set_in("receipt", "rejected_rows", to=-1),
    "a negative span": set_in("receipt", "spans", 0, "span", "row_start", to=-9),
    "a span of 10**30": set_in("receipt", "spans", 0, "span", "row_stop", to=10**30),
    "bytes of 2**63": set_in("receipt", "spans", 0, "span", "byte_stop", to=2**63),
    "a date of 10**30": set_in("receipt", "shard_mtime_ns", to=10**30),
    "reasons of 10**30": set_in("receipt", "reasons", to={"empty_text": 10**30}),
    "10**30 duplicate ids": set_in("run", "duplicate_ids", to=10**30),
    "a negative limit": set_in("run", "limit", to=-1),
}


def marked(change: Callable[[Lines], None]) -> Callable[[Lines], None]:
    """Return a change of the recipe that gives it its own fingerprint too, in the receipts as well."""

    def change_and_mark(lines: Lines) -> None:
        change(lines)
        mark = fingerprint(lines[0]["recipe"])
        for line in lines:
            if "fingerprint" in line:
                line["fingerprint"] = mark

    return change_and_mark


MANIFESTS |= {f"{name}, and its fingerprint": marked(MANIFESTS[name]) for name in MANIFESTS if "width" in name}
MANIFESTS["an empty recipe, and its fingerprint"] = marked(MANIFESTS["an empty recipe"])


def rewrite(output: Path, change: Callable[[Lines], None]) -> None:
    """Change the lines of a manifest."""
    path = output / "manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_manifest_that_says_what_cannot_be_ends_every_command_in_a_line(sound: Sound, tmp_path: Path) -> None:
    calls, outputs = [], []
    for number, change in enumerate(MANIFESTS.values()):
        output = sound.copy(tmp_path / str(number))
        rewrite(output, change)
        outputs.append(output)
        run = ("run", "--input", sound.source, "--output", output, *HASHING)
        calls += [("status", output), ("verify", output, "--input", sound.source), ("rejects", output)]
        calls += [("slice", output, "--dim", "8", "--allow-untrained-dim", tmp_path / f"slice {number}")]
        calls += [run, ("verify", output, "--repair"), (*run, "--rebuild"), ("verify", output)]
    done = run_all([Call(arguments) for arguments in calls], timeout_s=ENDS_AFTER_S)
    for each in done:
        check_line(each)
    n_each = len(calls) // len(outputs)
    whole = done[n_each - 1 :: n_each]
    assert [each.returncode for each in whole] == [0] * len(outputs), [each.stdout for each in whole]
    assert all(read_dataset(output).equals(read_dataset(sound.output)) for output in outputs)


UNDER_A_MANIFEST: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    **{f"a part without {name}": ("data", without(name)) for name in ("id", "passage", "content_hash", "text", "k")},
    "a part with words for hashes": ("data", cast("content_hash", pa.binary())),
    "a part with small row numbers": ("data", cast("row", pa.int32())),
    "a part of vectors of another width": ("data", narrow),
    **{f"rejects without {name}": ("rejects", without(name)) for name in ("id", "row", "reason", "text")},
    "rejects with small row numbers": ("rejects", cast("row", pa.int32())),
}
KINDS: list[Any] = [{"l": ["string"]}, {"k": ["string"], "\n": ["null"]}, {"": []}]


# Found by `make fuzz` on 2026-11-26: KeyError, exit 1.
def test_what_lacks_a_column_under_a_sound_manifest_is_made_again(tmp_path: Path) -> None:
    rows = [{"k": "x", **row} for row in [*texts(20), {"id": "bad", "text": " "}]]
    source, more = write_jsonl(tmp_path / "in/a.jsonl", rows), write_jsonl(tmp_path / "more/a.jsonl", rows[1:])
    options = (*HASHING, "--set", 'corpus.keep=["k"]')
    first, again = (("run", "--input", path, *options, "--output") for path in (source, more))
    [made, other] = run_all([Call((*first, tmp_path / "out")), Call((*again, tmp_path / "other"))])
    assert (made.returncode, other.returncode) == (0, 0), made.stderr + other.stderr
    sound, calls, outputs = Sound(source=source, output=tmp_path / "out"), [], []
    for number, (folder, change) in enumerate(UNDER_A_MANIFEST.values()):
        for run, expected in (((*first[:-1], "--rehash", "--output"), "out"), (again, "other")):
            if change is narrow and expected == "out":
                continue  # what a run does not read again: vectors are for `verify`
            output = sound.copy(tmp_path / f"{number}-{expected}")
            path = output / folder / sound.part
            pq.write_table(change(pq.read_table(path)), path)
            rewrite(output, set_in("receipt", "size_bytes", to=(output / "data" / sound.part).stat().st_size))
            calls += [(*run, output), ("verify", output)]
            outputs.append((output, tmp_path / expected))
    for number, kinds in enumerate(KINDS):
        output = sound.copy(tmp_path / f"kinds-{number}")
        rewrite(output, set_in("receipt", "kinds", to=kinds))
        calls += [(*first, output), ("verify", output)]
        outputs.append((output, tmp_path / "out"))
    for done in run_all([Call(each) for each in calls], timeout_s=ENDS_AFTER_S):
        assert done.returncode == 0, (done.args, done.stdout, done.stderr)
    for output, right in outputs:
        assert read_dataset(output).equals(read_dataset(right)), output
