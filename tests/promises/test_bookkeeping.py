"""What a run costs that finds nothing to do in a large dataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.chunk import Span
from pipeline.config import to_tables
from pipeline.corpus.reader import shard_at
from pipeline.dataset.manifest import Dataset, Receipt, Run
from pipeline.dataset.store import Store
from pipeline.recipe import column_settings, fingerprint, recipe
from tests.support import HASHING, local_config, one_span

OPENS_NO_PART = """
import sys
n_looked_at = 0
def audit(event, arguments):
    global n_looked_at
    if event in ("open", "os.listdir", "os.scandir"):
        assert "/data/part-" not in str(arguments[0]), arguments[0]
        n_looked_at += str(arguments[0]).startswith(sys.argv[1])
sys.addaudithook(audit)
from pipeline.cli import main
code = main(sys.argv[2:])
print("looked at", n_looked_at)
sys.exit(code)
"""


def write_finished(folder: Path, n_shards: int, n_parts: int) -> None:
    """Write an input and a dataset that is complete by its manifest; the parts are files that nobody could read."""
    config = local_config("engine.kind=hashing")
    mark = fingerprint(recipe(config))
    store = Store(root=folder / "out")
    (folder / "in").mkdir()
    receipts = []
    with store.lock():
        for i in range(n_shards):
            name = f"{i:05}.parquet"
            (folder / "in" / name).write_bytes(b"input")
            shard = shard_at(folder / "in", name)
            for j in range(n_parts):
                span = Span(row_start=1000 * j, row_stop=1000 * (j + 1))
                chunk = one_span(shard, span, mark, last=j == n_parts - 1)
                store.data_path(chunk.part_name).write_bytes(b"part")
                receipt = Receipt(
                    chunk=chunk.id,
                    part=chunk.part_name,
                    has_rejects=False,
                    fingerprint=mark,
                    column_settings=column_settings(config, {}),
                    has_text=True,
                    spans=chunk.spans,
                    input_rows=1000,
                    embedded_rows=1000,
                    rejected_rows=0,
                    passages=1000,
                    truncated=0,
                    tokens=100_000,
                    size_bytes=4,
                    checksum="0" * 32,
                )
                receipts.append(receipt)
        dataset = Dataset(fingerprint=mark, recipe=recipe(config), config=to_tables(config))
        store.rewrite_manifest([dataset, *receipts, Run(state="complete", input=str(folder / "in"), started_at=0.0)])


@pytest.mark.parametrize(
    ("n_shards", "n_parts"), [(100, 100), pytest.param(1000, 100, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_a_run_with_nothing_to_do_opens_no_part_and_as_many_files_for_ten_times_the_parts(
    tmp_path: Path, n_shards: int, n_parts: int
) -> None:
    looked_at = []
    for n in (n_parts // 10, n_parts):
        folder = tmp_path / str(n)
        folder.mkdir()
        write_finished(folder, n_shards, n)
        run = ("run", "--input", folder / "in", "--output", folder / "out", *HASHING)
        script = [sys.executable, "-c", OPENS_NO_PART, str(folder), *map(str, run)]
        done = subprocess.run(script, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"{n_shards * n:,} parts" in " ".join(done.stdout.split()), "on one line or on two"
        assert "embedded 0 texts" in done.stdout
        looked_at.append(int(done.stdout.split()[-1]))
    assert 0 < looked_at[1] == looked_at[0]
