"""What says nothing is no text: it is rejected with its reason, costs no engine and spoils no reader."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.dataset.store import Store
from pipeline.driver.fan_out import fan_out_here
from pipeline.driver.inventory import RunOptions
from pipeline.driver.run import Outcome, run
from pipeline.engines import ENGINES, EngineKind
from pipeline.tools.verify import verify
from pipeline.vectors import to_unit_float16
from pipeline.worker.embed import embed_texts
from tests.support import HASHING, ids, local_config, read_dataset, texts, write_jsonl, write_parquet
from tests.support.many import Call, run_all

NOTHING = ["\u200b", "\x00\u2060", "\ufeff\xad\n", "[SEP] [SEP]", "\u200d " * 400, "[PAD]" * 400]
SOMETHING = ["one", "[sep]", "\u200btwo", "\U0001f600", "passage:"]
EMPTY: list[dict[str, Any]] = [{"id": "0", "text": ""}, {"id": "1", "text": None}, {"id": "2", "text": "\u200b"}]


class Counting:
    """An engine that needs the model's own tokenizer, and counts what it gets."""

    calls: list[int] = []  # noqa: RUF012  shared on purpose: a run makes its own instance

    def __init__(self, config: Config) -> None:
        self.calls.append(0)
        self._width = config.model.dims[0]

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.calls[-1] += len(token_ids)
        made = [np.random.default_rng(list(each)).standard_normal(self._width) for each in token_ids]
        return np.array(made, np.float32).reshape(len(made), self._width)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list with one entry for each engine that was loaded."""
    monkeypatch.setitem(ENGINES, "counting", EngineKind(make=f"{__name__}:Counting", computes_in="float32"))
    monkeypatch.setattr(Counting, "calls", [])
    return Counting.calls


def tokenised(source: Path, output: Path, *sets: str, **options: Any) -> Outcome:
    """Run with the tokenizer of MiniLM and without its engine."""
    config = local_config("engine.kind=counting", "model.golden=", *sets)
    store = Store(root=output)
    return run(str(source), store, config, fan_out=fan_out_here(store), options=RunOptions(**options))


@pytest.mark.parametrize("prompt", ["", "passage: "])
@pytest.mark.parametrize("on_long", ["truncate", "split", "reject"])
def test_a_text_of_which_the_tokenizer_leaves_nothing_is_rejected_and_needs_no_engine_again(
    tmp_path: Path, engines: list[int], prompt: str, on_long: Literal["truncate", "split", "reject"]
) -> None:
    sets = (f"model.document_prompt={prompt}", f"corpus.on_long={on_long}", "run.chunk_tokens=4096")
    rows = [{"id": text, "text": text} for text in (*NOTHING, *SOMETHING, *NOTHING[:2])]
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    outcome = tokenised(tmp_path / "in", tmp_path / "out", *sets)
    assert sorted(set(ids(tmp_path / "out"))) == sorted(SOMETHING)
    assert outcome.totals["rejected_by_reason"] == {"empty_text": len(NOTHING) + 2}
    assert outcome.run.embedded_now == len(SOMETHING)
    rejected = pq.read_table(tmp_path / "out/rejects").to_pylist()
    assert {row["detail"] for row in rejected} == {"the tokenizer leaves no token but special ones"}
    assert [row["text"] for row in rejected] == [*NOTHING, *NOTHING[:2]]

    n_loaded = len(engines)
    assert tokenised(tmp_path / "in", tmp_path / "out", *sets, rehash=True).run.kept_rows == len(SOMETHING)
    rows.append({"id": "new", "text": "\u202e"})
    random.Random(3).shuffle(rows)
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    again = tokenised(tmp_path / "in", tmp_path / "out", *sets)
    assert (again.run.state, again.run.reused_rows, again.totals["rejected_rows"]) == ("complete", 5, 9)
    assert len(engines) == n_loaded  # what is new says nothing, so nothing was loaded
    store = Store(root=tmp_path / "out")
    assert verify(store, store.read_manifest())[0] == []


def test_the_service_still_gives_such_a_text_a_vector(engines: list[int]) -> None:
    from pipeline.engines import EngineThread

    config = local_config("engine.kind=counting", "model.golden=")
    thread = EngineThread(config)
    try:
        vectors = embed_texts(["one", "\u200b", "two"], config, thread)
    finally:
        thread.close()
    bare = Counting(config).embed([[101, 102]])
    assert vectors.shape == (3, 384)
    assert np.array_equal(vectors[1], to_unit_float16(bare, 384)[0])


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `out`, whose first, middle and last part hold no row, and its slice `cut`."""
    folder = tmp_path_factory.mktemp("spoilt")
    for name in ("a", "c", "e"):
        write_jsonl(folder / f"in/{name}.jsonl", EMPTY)
    write_jsonl(folder / "in/b.jsonl", texts(30))
    write_parquet(folder / "in/d.parquet", texts(30, start=30))
    output = folder / "out"
    for done in run_all(
        [
            Call(("run", "--input", folder / "in", "--output", output, *HASHING, "--set", "run.chunk_tokens=1")),
            Call(("slice", output, "--dim", "64", "--allow-untrained-dim", folder / "cut")),
            Call(("verify", output, "--input", folder / "in")),
            Call(("verify", folder / "cut")),
            Call(("search", output, "word1")),
        ]
    ):
        assert done.returncode == 0, done.stderr
    return folder


def hugging_face(folder: Path, scratch: Path) -> list[str]:
    import datasets

    return list(datasets.load_dataset(str(folder), cache_dir=str(scratch))["train"]["id"])


def hugging_face_files(folder: Path, scratch: Path) -> list[str]:
    import datasets

    files = str(folder / "data/*.parquet")
    return list(datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(scratch))["id"])


def hugging_face_streaming(folder: Path, scratch: Path) -> list[str]:
    import datasets

    files = str(folder / "data/*.parquet")
    return [row["id"] for row in datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)]


READERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "datasets": hugging_face,
    "datasets, files": hugging_face_files,
    "datasets, streaming": hugging_face_streaming,
    "pandas": lambda folder, _: list(pd.read_parquet(folder / "data")["id"]),
    "pandas, file by file": lambda folder, _: [
        i for path in sorted((folder / "data").iterdir()) for i in pd.read_parquet(path)["id"]
    ],
    "polars": lambda folder, _: pl.read_parquet(folder / "data/*.parquet")["id"].to_list(),
    "polars, lazily": lambda folder, _: pl.scan_parquet(folder / "data/*.parquet").collect()["id"].to_list(),
    "DuckDB": lambda folder, _: [
        i for i, _ in duckdb.connect().execute(f"select id, embedding from '{folder}/data/*.parquet'").fetchall()
    ],
    "pyarrow": lambda folder, _: ds.dataset(folder / "data").to_table().column("id").to_pylist(),
    "pyarrow, in batches": lambda folder, _: [
        i for batch in ds.dataset(folder / "data").to_batches() for i in batch.column("id").to_pylist()
    ],
}


@pytest.mark.parametrize("name", ["out", "cut"])
@pytest.mark.parametrize("reader", READERS)
def test_a_part_without_rows_opens_in_every_reader(spoilt: Path, tmp_path: Path, reader: str, name: str) -> None:
    sizes = [pq.read_metadata(path).num_rows for path in (spoilt / name / "data").iterdir()]
    assert sorted(sizes)[:3] == [0, 0, 0]
    found = READERS[reader](spoilt / name, tmp_path)
    assert sorted(found) == sorted(row["id"] for row in texts(60))


def test_no_row_group_is_empty_and_such_a_part_has_the_type_of_the_others(spoilt: Path) -> None:
    for path in [*(spoilt / "out/data").iterdir(), *(spoilt / "cut/data").iterdir()]:
        metadata = pq.read_metadata(path)
        assert all(metadata.row_group(at).num_rows for at in range(metadata.num_row_groups))
    assert len({str(pq.read_schema(path).remove_metadata()) for path in (spoilt / "out/data").iterdir()}) == 1
    assert len(read_dataset(spoilt / "out")) == 60


NO_ROW_LEFT: list[tuple[dict[str, list[dict[str, Any]]], int, str]] = [
    ({"a.jsonl": EMPTY}, 3, "a.jsonl:0, empty_text, text: nothing but white space"),
    ({"b.jsonl": EMPTY[1:], "a.jsonl": [EMPTY[2]]}, 3, "a.jsonl:0, empty_text, the tokenizer leaves no token"),
    ({"x.jsonl": [{"text": 5}] * 2}, 2, "x.jsonl:0, not_a_string, text: expected a string, found int"),
    ({"a.jsonl": [], "b.jsonl": [{"text": None}]}, 1, "b.jsonl:0, null_text, text is null"),
]


def test_a_run_whose_every_row_was_rejected_ends_with_the_first_reason(tmp_path: Path) -> None:
    calls = []
    for at, (files, _, _) in enumerate(NO_ROW_LEFT):
        for name, rows in files.items():
            write_jsonl(tmp_path / f"{at}/in" / name, rows)
        run_it = Call(("run", "--input", tmp_path / f"{at}/in", "--output", tmp_path / f"{at}/out", *HASHING))
        calls += [run_it, run_it, Call(("rejects", tmp_path / f"{at}/out"))]
    done = run_all(calls)
    for at, (_, n_rows, first) in enumerate(NO_ROW_LEFT):
        *twice, listed = done[3 * at : 3 * at + 3]
        for each in twice:
            assert each.returncode == 3
            begin = f"embed-corpus: output {tmp_path / f'{at}/out'}: expected at least one row embedded"
            assert each.stderr.startswith(f"{begin}, found all {n_rows} rejected; the first is {first}")
            assert each.stderr.endswith("; `embed-corpus rejects` lists them\n")
            assert len(each.stderr.splitlines()) == 1
        assert len(listed.stdout.splitlines()) == n_rows


def test_one_row_that_is_embedded_is_enough_and_so_is_a_corpus_without_rows(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one/a.jsonl", [*EMPTY * 50, {"text": "at last"}])
    write_jsonl(tmp_path / "one/b.jsonl", EMPTY)
    write_jsonl(tmp_path / "none/a.jsonl", [])
    write_jsonl(tmp_path / "cut/a.jsonl", [*texts(7), {"text": "word " * 300}])
    names = ("one", "none", "cut")
    done = run_all(
        [Call(("run", "--input", tmp_path / name, "--output", tmp_path / f"{name}-out", *HASHING)) for name in names]
    )
    assert [each.returncode for each in done] == [0, 0, 0]
    one, none, cut = (each.stdout for each in done)
    assert "1 embedded, 153 rejected\nrejects: 102 empty_text, 51 null_text\n" in one
    assert "0 rows, 0 embedded, 0 rejected\n0 tokens in 0 passages\n" in none
    assert ", 12.5% truncated, " in cut
