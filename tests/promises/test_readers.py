"""The output opens in what people use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tests.support import HASHING, embed_corpus, read_dataset, texts, write_jsonl

ROWS = texts(300)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    source = write_jsonl(folder / "in.jsonl", ROWS)
    run = ("run", "--input", source, "--output", folder / "out", *HASHING, "--set", "run.chunk_tokens=1000")
    assert embed_corpus(*run).returncode == 0
    return folder / "out"


@pytest.fixture(scope="module")
def expected(dataset: Path) -> dict[str, NDArray[np.float16]]:
    table = read_dataset(dataset)
    vectors = [np.array(vector, np.float16) for vector in table.column("embedding").to_pylist()]
    return dict(zip(table.column("id").to_pylist(), vectors, strict=True))


def check(ids: list[str], vectors: list[NDArray[np.floating]], expected: dict[str, NDArray[np.float16]]) -> None:
    assert sorted(ids) == sorted(row["id"] for row in ROWS)
    assert all(np.array_equal(np.asarray(v, np.float16), expected[i]) for i, v in zip(ids, vectors, strict=True))


def test_pandas(dataset: Path, expected: dict[str, NDArray[np.float16]]) -> None:
    frame = pd.read_parquet(dataset / "data")
    check(frame["id"].tolist(), frame["embedding"].tolist(), expected)


def test_polars(dataset: Path, expected: dict[str, NDArray[np.float16]]) -> None:
    import polars as pl

    frame = pl.read_parquet(dataset / "data/*.parquet")
    check(frame["id"].to_list(), frame["embedding"].to_list(), expected)


def test_duckdb(dataset: Path, expected: dict[str, NDArray[np.float16]]) -> None:
    import duckdb

    found = duckdb.connect().execute(f"select id, embedding from '{dataset}/data/*.parquet'").fetchall()
    check([i for i, _ in found], [np.array(vector) for _, vector in found], expected)


def test_hugging_face_datasets(dataset: Path, expected: dict[str, NDArray[np.float16]], tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(dataset), cache_dir=str(tmp_path))["train"]
    check(loaded["id"][:], [np.array(vector) for vector in loaded["embedding"][:]], expected)
