"""Partitions: what the folders of a shard are named, its rows have as columns, in every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.corpus.partitions import given_columns
from tests.support import HASHING, read_dataset
from tests.support.formats import ENDINGS, write_rows

ROWS = [{"id": "1", "text": "one"}, {"id": "2", "text": "two"}]


def test_folders_give_columns_with_their_values_decoded() -> None:
    assert given_columns("lang=en/year=2026/a=b=c/x.parquet") == {"lang": "en", "year": "2026", "a": "b=c"}
    assert given_columns("topic=a%2Fb%20c/k=__HIVE_DEFAULT_PARTITION__/x.csv") == {"topic": "a/b c", "k": None}
    assert given_columns("=x/plain/a=1.jsonl") == {}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_template_and_kept_columns_use_them(tmp_path: Path, ending: str) -> None:
    write_rows(tmp_path / f"in/lang=en/a{ending}", ROWS)
    write_rows(tmp_path / f"in/lang=de/a{ending}", ROWS[:1])
    settings = ("--set", 'corpus.text="{lang}: {text}"', "--set", 'corpus.keep=["lang"]')
    assert main(["run", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *HASHING, *settings]) == 0
    found = read_dataset(tmp_path / "out").select(["id", "lang"]).to_pylist()
    assert found == [{"id": "1", "lang": "de"}, {"id": "1", "lang": "en"}, {"id": "2", "lang": "en"}]
    assert main(["verify", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 0


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".csv"])
def test_what_a_file_says_itself_comes_first(tmp_path: Path, ending: str) -> None:
    write_rows(tmp_path / f"in/lang=en/a{ending}", [{**row, "lang": "own"} for row in ROWS])
    write_rows(tmp_path / f"in/lang=de/b{ending}", ROWS)
    settings = ("--set", 'corpus.keep=["lang"]')
    assert main(["run", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *HASHING, *settings]) == 0
    assert read_dataset(tmp_path / "out").column("lang").to_pylist() == ["de", "de", "own", "own"]
