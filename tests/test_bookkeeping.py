"""What a run costs that finds nothing to do in a large dataset."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.config import load_config, to_tables
from pipeline.corpus import shard_at
from pipeline.manifest import Dataset, Receipt, Run
from pipeline.plan import Span, make_chunk
from pipeline.recipe import fingerprint, labels, recipe
from pipeline.store import Store
from tests.support import HASHING, REPOSITORY, command

LIMIT_S = 10
OPENS_NO_PART = """
import sys
def audit(event, arguments):
    assert event != "open" or "/data/part-" not in str(arguments[0]), arguments[0]
sys.addaudithook(audit)
from pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""


def write_finished(folder: Path, n_shards: int, n_parts: int) -> None:
    """Write an input and a dataset that is complete by its manifest; the parts are files that nobody could read."""
    config = load_config(REPOSITORY / "configs/local.toml", ["engine.kind=hashing"])
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
                chunk = make_chunk(shard, span, mark, last=j == n_parts - 1)
                store.data_path(chunk.part_name).write_bytes(b"part")
                receipt = Receipt(
                    chunk=chunk.id,
                    part=chunk.part_name,
                    has_rejects=False,
                    fingerprint=mark,
                    labels=labels(config, ()),
                    source=name,
                    shard_size_bytes=shard.size_bytes,
                    shard_mtime_ns=shard.mtime_ns,
                    span=span,
                    last=chunk.last,
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
def test_a_run_with_nothing_to_do_takes_seconds_and_opens_no_part(tmp_path: Path, n_shards: int, n_parts: int) -> None:
    write_finished(tmp_path, n_shards, n_parts)
    arguments = command("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)[3:]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", OPENS_NO_PART, *arguments], capture_output=True, text=True)
    took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert f"{n_shards * n_parts:,} parts" in done.stdout
    assert "embedded 0 texts" in done.stdout
    assert took_s < LIMIT_S
