"""--skip-bad-files: a file that turns out unreadable only when its rows are looked at is skipped as well."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.dataset import Store
from pipeline.driver import RunOptions, make_plan
from pipeline.errors import CorpusError
from tests.support import HASHING, embed_corpus, ids, local_config, status, texts, write_jsonl, write_parquet
from tests.support.crash import hashing_run

SKIP = RunOptions(skip_bad_files=True, prune=True)
CONFIG = local_config("engine.kind=hashing")


def bad_page(path: Path, column: int) -> Path:
    """Write a Parquet file whose footer is sound and in which a column's first page is none."""
    write_parquet(path, texts(2000, start=100), compression="none", use_dictionary=False)
    at = pq.read_metadata(path).row_group(0).column(column).data_page_offset
    data = bytearray(path.read_bytes())
    data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    return path


def cut_short(path: Path) -> Path:
    """Write packed lines, without the end of the stream."""
    write_jsonl(path, texts(3000, start=100))
    path.write_bytes(path.read_bytes()[:-2000])
    return path


BAD: dict[str, Callable[[Path], Path]] = {
    "a first page of texts": lambda folder: bad_page(folder / "bad.parquet", 1),
    "a first page of ids": lambda folder: bad_page(folder / "bad.parquet", 0),
    "gzip without its end": lambda folder: cut_short(folder / "bad.jsonl.gz"),
    "zstd without its end": lambda folder: cut_short(folder / "bad.jsonl.zst"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("keep", [(), ("id",)])
def test_a_file_whose_rows_cannot_be_read_is_skipped(tmp_path: Path, kind: str, keep: tuple[str, ...]) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write_jsonl(source / "a.jsonl", texts(30))
    write_parquet(source / "z.parquet", texts(30, start=30))
    bad = BAD[kind](source)
    settings: dict[str, Any] = {"corpus__keep": list(keep)} if keep else {}
    with pytest.raises(CorpusError, match=bad.name):
        hashing_run(source, tmp_path / "refused", **settings)
    for _ in range(2):
        record = hashing_run(source, output, SKIP, **settings)
        assert record["skipped_files"] == (bad.name,)
    assert sorted(ids(output)) == sorted(row["id"] for row in texts(60))


def test_the_command_names_the_file_and_ends_well(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(30))
    bad_page(tmp_path / "in/bad.parquet", 1)
    run = ("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    refused, done = embed_corpus(*run), embed_corpus(*run, "--skip-bad-files")
    assert (refused.returncode, done.returncode) == (2, 0)
    assert "bad.parquet rows 0-63: expected pages that can be read" in refused.stderr
    assert "embed-corpus: skipped bad.parquet\n" in done.stderr
    assert (status(tmp_path / "out")["state"], status(tmp_path / "out")["embedded_rows"]) == ("complete", 30)


def test_every_bad_file_of_many_is_found_and_none_of_the_good(tmp_path: Path) -> None:
    source = tmp_path / "in"
    bad = bad_page(tmp_path / "bad.parquet", 1)
    for number in range(40):  # more than are sampled
        write_jsonl(source / f"{number:02d}.jsonl", texts(1, start=number))
    for number in (3, 17, 38):
        shutil.copy(bad, source / f"{number:02d}-bad.parquet")
        cut_short(source / f"{number:02d}-cut.jsonl.gz")
    plan = make_plan(str(source), Store(root=tmp_path / "out"), CONFIG, SKIP)
    assert sorted(plan.corpus.skipped) == sorted(path.name for path in source.iterdir() if "-" in path.name)
    assert sum(chunk.n_rows for chunk in plan.chunks) == 40


def test_parts_of_a_file_that_went_bad_stay(tmp_path: Path) -> None:
    """As they do where a footer is damaged: nothing says that its rows are gone."""
    source, output = tmp_path / "in", tmp_path / "out"
    write_jsonl(source / "a.jsonl", texts(30))
    write_jsonl(source / "bad.jsonl.gz", texts(3000, start=100))
    hashing_run(source, output)
    cut_short(source / "bad.jsonl.gz")
    write_jsonl(source / "b.jsonl", texts(5, start=50))
    record = hashing_run(source, output, SKIP)
    assert (record["skipped_files"], record["removed_rows"]) == (("bad.jsonl.gz",), 0)
    assert len(ids(output)) == 3035


def test_nothing_but_bad_files_is_refused(tmp_path: Path) -> None:
    bad_page(tmp_path / "in/bad.parquet", 1)
    cut_short(tmp_path / "in/cut.jsonl.gz")
    with pytest.raises(CorpusError, match="there is no other file"):
        hashing_run(tmp_path / "in", tmp_path / "out", SKIP)
