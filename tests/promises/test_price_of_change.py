"""What a changed percent of a real corpus costs with a real model, against the whole."""

from __future__ import annotations

import sysconfig
from itertools import islice
from pathlib import Path

import pytest

from scripts.sample_corpus import Docstring, docstrings
from tests.support import REPOSITORY, embed_corpus, status, write_jsonl, write_parquet

N_ROWS = 30_000
LOCAL = ("--config", REPOSITORY / "configs/local.toml")


def real_rows() -> list[Docstring]:
    """Return docstrings of what is installed here, each with an id of its own."""
    sources = sorted(Path(sysconfig.get_path("purelib")).rglob("*.py"))
    rows = (row for path in sources for row in docstrings(path, path.stem))
    return [row | {"id": str(i)} for i, row in enumerate(islice(rows, N_ROWS))]


@pytest.mark.slow
def test_one_percent_of_changed_rows_costs_at_most_a_twentieth_of_the_first_run(tmp_path: Path) -> None:
    rows = real_rows()
    assert len(rows) == N_ROWS
    write_jsonl(tmp_path / "one/a.jsonl", [{"id": "x", "text": "loads the engine"}])

    def wall_s(source: Path, output: Path) -> float:
        done = embed_corpus("run", "--input", source, "--output", output, *LOCAL, timeout_s=3600)
        assert done.returncode == 0, done.stderr
        found: float = status(output)["wall_s"]
        return found

    def write(rows: list[Docstring]) -> None:
        for i in range(10):
            name = f"{i}.{('parquet', 'jsonl')[i % 2]}"
            (write_parquet if i % 2 == 0 else write_jsonl)(tmp_path / "in" / name, rows[i * 3000 : (i + 1) * 3000])

    load_s = wall_s(tmp_path / "one", tmp_path / "out-one")
    write(rows)
    first_s = wall_s(tmp_path / "in", tmp_path / "out") - load_s
    write([row | {"text": f"Changed {i}. {row['text']}"} if i % 100 == 0 else row for i, row in enumerate(rows)])
    second_s = wall_s(tmp_path / "in", tmp_path / "out") - load_s
    assert status(tmp_path / "out")["embedded_now"] == N_ROWS // 100
    assert second_s <= 0.05 * first_s
