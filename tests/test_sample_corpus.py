"""The sample corpus is real, complete and the same every time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scripts.sample_corpus import build_sample

PARQUET = ("classes.parquet", "modules.parquet")
LINES = "functions.jsonl.gz"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "corpus"
    assert build_sample(folder)
    return folder


@pytest.fixture(scope="module")
def rows(corpus: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in gzip.decompress((corpus / LINES).read_bytes()).splitlines()]
    return lines + [row for name in PARQUET for row in pq.read_table(corpus / name).to_pylist()]


def test_ids_are_unique_and_texts_are_not_empty(rows: list[dict[str, Any]]) -> None:
    assert 6_500 < len(rows) < 9_000
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["text"].strip() for row in rows)


def test_what_a_reader_knows_is_there_and_what_is_no_library_is_not(rows: list[dict[str, Any]]) -> None:
    kinds = {row["id"]: row["kind"] for row in rows}
    expected = {"json": "module", "json.decoder.JSONDecoder": "class", "json.loads": "function"}
    assert expected.items() <= kinds.items()
    assert not [name for name in kinds if name.split(".")[0] in {"test", "idlelib", "pip", "numpy"}]


def test_the_files_differ_in_what_a_reader_must_handle(corpus: Path) -> None:
    assert {path.name for path in corpus.iterdir()} == {*PARQUET, LINES}
    assert pq.ParquetFile(corpus / "classes.parquet").num_row_groups > 1
    types = [str(field.type) for field in pq.read_schema(corpus / "modules.parquet")]
    assert types[1] == "large_string"
    assert types[2].startswith("dictionary")


def test_a_second_folder_has_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    build_sample(tmp_path)
    for path in corpus.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_current_corpus_is_left_alone_and_a_damaged_one_is_built_again(corpus: Path) -> None:
    assert not build_sample(corpus)
    (corpus / LINES).unlink()
    assert build_sample(corpus)
    assert not build_sample(corpus)
