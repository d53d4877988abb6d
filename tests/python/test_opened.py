"""An opened dataset: in Python it is what other readers of its files find, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import pipeline
import pipeline.engines
from pipeline.config import Config
from pipeline.dataset import Store
from pipeline.engines import Embedder, make_lightest
from pipeline.errors import DamageError, IncompleteError, UsageError
from pipeline.vectors import to_numpy
from tests.support import REPOSITORY, texts, write_jsonl
from tests.support.vectors import write_dataset

HASHING = REPOSITORY / "configs/hashing.toml"
LONG = {"id": "long", "text": " ".join(f"long{i}" for i in range(600)), "year": None}


def make(folder: Path, rows: list[dict[str, Any]], *settings: str) -> Path:
    """Embed rows without a model, in many parts, and return the dataset."""
    write_jsonl(folder / "in/a.jsonl", rows)
    overrides = ["run.chunk_tokens=2000", *settings]
    pipeline.run(folder / "in", folder / "out", config=HASHING, set=overrides)
    return folder / "out"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of several parts, with a row of several passages, a rejected row and a kept column."""
    rows = [{**row, "year": 2000 + i} for i, row in enumerate(texts(500))]
    settings = ('corpus.keep=["year"]', "corpus.on_long=split")
    return make(tmp_path_factory.mktemp("opened"), [*rows, LONG, {"id": "bad", "text": " "}], *settings)


@pytest.fixture(scope="module")
def table(output: Path) -> pa.Table:
    """Return the dataset as a reader of its folder has it."""
    return ds.dataset(output / "data", format="parquet").to_table()


def test_ids_vectors_and_columns_are_those_of_the_files_in_their_order(output: Path, table: pa.Table) -> None:
    opened = pipeline.open_dataset(output)
    expected = to_numpy(table.column("embedding")).astype(np.float32)
    assert (len(opened), opened.dim, opened.ids()) == (len(table), 384, table.column("id").to_pylist())
    assert opened.vectors().dtype == np.float32
    assert (opened.vectors() == expected).all()
    pieces = list(opened.iter_vectors())
    assert [name for names, _ in pieces for name in names] == opened.ids()
    assert (np.concatenate([vectors for _, vectors in pieces]) == expected).all()
    assert len(pieces) == len(list((output / "data").iterdir())) > 3


def test_a_frame_has_every_column(output: Path, table: pa.Table) -> None:
    frame = pipeline.open_dataset(output).to_pandas()
    assert list(frame.columns) == table.column_names
    assert (np.stack(list(frame["embedding"])) == pipeline.open_dataset(output).vectors()).all()
    others = table.drop_columns("embedding")
    assert pa.Table.from_pandas(frame[others.column_names], schema=others.schema).equals(others)


def test_search_returns_the_passages_that_are_nearest_with_their_texts(output: Path) -> None:
    opened = pipeline.open_dataset(output)
    asked = texts(500)[7]
    best, *others = opened.search(asked["text"], 3, config=HASHING)
    assert (best["id"], best["text"], best["source"], best["row"]) == ("doc-7", asked["text"], "a.jsonl", 7)
    assert best["year"] == 2007
    assert best["score"] == pytest.approx(1, abs=1e-3)
    assert len(others) == 2
    assert best["score"] > others[0]["score"] >= others[1]["score"]
    second = next(row for row in opened.to_pandas().to_dict("records") if row["passage"] == 1)
    [piece] = opened.search(second["text"], 1, config=HASHING)
    assert (piece["id"], piece["passage"], piece["text"]) == ("long", 1, second["text"])


def test_search_takes_a_vector_and_a_condition_and_loads_its_model_once(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, loaded = pipeline.open_dataset(output), list[Config]()

    def load(config: Config) -> Embedder:
        loaded.append(config)
        return make_lightest(config)

    monkeypatch.setattr(pipeline.engines, "make_lightest", load)
    at = opened.ids().index("doc-7")
    assert opened.search(opened.vectors()[at], 1, config=HASHING)[0]["id"] == "doc-7"
    assert loaded == []
    found = [opened.search("word1", 500, "year < 2005", config=HASHING) for _ in range(2)]
    assert {hit["id"] for hit in found[0]} == {f"doc-{n}" for n in range(5)}
    assert (found[0], len(loaded)) == (found[1], 1)
    ids = [hit["id"] for hit in opened.search("word1", 1000, config=HASHING)]
    assert (len(ids), set(ids)) == (501, set(opened.ids()))


@pytest.mark.parametrize(("query", "k"), [("", 1), ("a", 0)])
def test_a_search_for_nothing_is_refused(output: Path, query: str, k: int) -> None:
    with pytest.raises(UsageError, match="expected"):
        pipeline.open_dataset(output).search(query, k, config=HASHING)


def test_a_dataset_without_texts_finds_ids(tmp_path: Path) -> None:
    opened = pipeline.open_dataset(make(tmp_path, [*texts(20)], "corpus.store_text=false"))
    [hit] = opened.search(texts(20)[3]["text"], 1, config=HASHING)
    assert (hit["id"], hit["text"]) == ("doc-3", None)
    assert "text" not in opened.to_pandas()


def test_an_incomplete_dataset_says_so(output: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "out", 2, 10)
    store = Store(root=tmp_path / "out")
    lines = store.manifest_path.read_bytes().splitlines(keepends=True)
    ended = json.loads(lines[-1]) | {"state": "incomplete", "planned_rows": 30}
    store.manifest_path.write_bytes(b"".join(lines[:-1]) + json.dumps(ended).encode() + b"\n")
    with pytest.warns(UserWarning, match="incomplete, with 20 of 30 rows; `embed-corpus run` completes it"):
        opened = pipeline.open_dataset(store.root)
    assert (len(opened), opened.vectors().shape) == (20, (20, 384))


def test_a_dataset_of_rejected_rows_alone_is_empty(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="all 1 rejected"):
        make(tmp_path, [{"id": "bad", "text": " "}])
    opened = pipeline.open_dataset(tmp_path / "out")
    assert (len(opened), opened.ids(), opened.vectors().shape) == (0, [], (0, 384))
    assert len(opened.to_pandas()) == len(list(opened.iter_vectors())) == 0
    assert opened.search("a", config=HASHING) == []


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a dataset made by"):
        pipeline.open_dataset(tmp_path)


def test_a_part_that_is_damaged_or_gone_is_damage(tmp_path: Path) -> None:
    store = write_dataset(tmp_path / "out", 2, 10)
    opened = pipeline.open_dataset(store.root)
    part = min((store.root / "data").iterdir())
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamageError, match=part.name):
        opened.vectors()
    part.unlink()
    for read in (opened.ids, opened.vectors, opened.to_pandas):
        with pytest.raises(DamageError, match=part.name):
            read()


@pytest.mark.parametrize("passages", [2**62, 12, 5])
def test_a_manifest_that_says_another_number_of_vectors_is_damage_or_too_much(tmp_path: Path, passages: int) -> None:
    store = write_dataset(tmp_path / "out", 1, 10)
    lines = [json.loads(line) for line in store.manifest_path.read_bytes().splitlines()]
    for line in lines:
        if line["kind"] == "receipt":
            line["passages"] = passages
    store.manifest_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    opened = pipeline.open_dataset(store.root)
    with pytest.raises(
        UsageError if passages > 10**6 else DamageError, match=r"room in memory|passages where|found more"
    ):
        opened.vectors()
