"""The card is read by machines first: whatever a licence is called, its metadata is YAML with that name."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from huggingface_hub import metadata_load

from tests.support import texts, write_jsonl
from tests.support.crash import hashing_run

BEGINNING = """\
---
configs:
- config_name: default
  data_files: data/*.parquet
license: other
license_name: Apache-2.0
tags:
- embeddings
---
# Embeddings by sentence-transformers/all-MiniLM-L6-v2
"""


@pytest.mark.parametrize("licence", ["Custom: see x", "[MIT]", "yes", "1.0", "# none", "Größe {licence}"])
def test_a_card_holds_every_licence_as_it_is_called(tmp_path: Path, licence: str) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", texts(3))
    hashing_run(source, tmp_path / "out", model__licence=f'"{licence}"')
    assert metadata_load(tmp_path / "out/README.md") == {
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
        "license": "other",
        "license_name": licence,
        "tags": ["embeddings"],
    }
    table = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(table) == 3


def test_a_card_of_an_older_version_is_not_written_again(tmp_path: Path) -> None:
    hashing_run(write_jsonl(tmp_path / "in.jsonl", texts(3)), tmp_path / "out")
    assert (tmp_path / "out/README.md").read_text().startswith(BEGINNING)
