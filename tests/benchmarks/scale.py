"""A corpus of a billion rows through the real planner, dispatcher, manifest and reconciliation.

Its files cost nothing to read and its engine nothing to run; time passes as the tokens say. What is measured is the
driver: its processor time and memory, the size of what it sends, and how soon it begins. Run it as
`python -m tests.benchmarks.scale [--files 100000] [--rows 10000] [--containers 4]`; it prints one JSON object.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import Chunk, ChunkSize, Density, Shard, Span, cut_rows, rows_per_chunk
from pipeline.config import Config, load_config
from pipeline.console import peak_rss_bytes
from pipeline.corpus import READERS, Block, Columns, Kinds, Rows
from pipeline.corpus.shards import Found
from pipeline.dataset import Receipt, Store
from pipeline.driver import RunOptions, dispatch
from pipeline.driver.run import run
from pipeline.worker import Failure, Job, pack, unpack_outcome

CONFIG = Path(__file__).parents[2] / "configs/hashing.toml"
ENDING = ".synthetic"
WORDS, ROW_BYTES = 25, 100  # of a row; the planner takes four bytes for a token
TOKENS_PER_S = 5_200.0  # 0.4 of the peak of an A100 on 24 GFLOP a token
IN_FLIGHT = 3  # chunks handed out for each container, as on Modal
STARTS_S = 60.0
ROWS: dict[str, int] = {}  # of each file, by the folder of the input


class Synthetic:
    """A reader of files that are not there: each has as many rows as ROWS says."""

    rows_have_places: ClassVar[bool] = True

    def __init__(self, path: Path, source: str) -> None:
        self._n_rows = ROWS["each"]

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        """Return the columns of every file."""
        return {"text": pa.string()}

    def head(self, columns: Columns) -> tuple[Rows, int]:
        """Return a hundred rows."""
        return self.read(Span(row_start=0, row_stop=100), columns), 0

    def place_at(self, share: float) -> int:
        """Return the only place that there is: all rows are alike."""
        return 0

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        """Yield a hundred rows that mean all."""
        texts = self.head(columns)[0].text
        yield Block(
            share=100 / self._n_rows,
            n_bytes=100 * ROW_BYTES,
            sizes=np.full(100, ROW_BYTES),
            texts=lambda rows: [texts[row] for row in rows],
        )

    def cut(
        self, gap: Span, density: Density, size: ChunkSize, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        """Yield spans as the Parquet reader does, of rows that are all alike."""
        stop = self._n_rows if is_open else gap.row_stop
        n_rows = stop - gap.row_start
        most = rows_per_chunk(round(n_rows * density.tokens_per_row), n_rows, n_rows * ROW_BYTES, size)
        for span in cut_rows(gap.row_start, stop, most):
            yield span, span.row_stop == self._n_rows

    def byte_of(self, span: Span, row: int) -> int:
        """Return 0, as rows are not addressed by bytes."""
        return 0

    def ends_at(self, span: Span) -> bool:
        """Whether the file ends with a span."""
        return span.row_stop == self._n_rows

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Return the numbers of all rows."""
        yield np.arange(self._n_rows)

    def read(self, span: Span, columns: Columns) -> Rows:
        """Return rows of words."""
        texts = [" ".join(["word"] * WORDS)] * span.n_rows
        numbers = list(range(span.row_start, span.row_stop))
        return Rows(row=numbers, id=list(map(str, numbers)), text=texts, kept=pa.table({}))

    def close(self) -> None:
        """Close nothing."""


@dataclass(slots=True, kw_only=True)
class Virtual:
    """A pool of containers whose time is reckoned: a chunk takes what its tokens take, and each of them one engine."""

    n_containers: int
    began: float  # of the run, in seconds of time.perf_counter
    store: Store
    now_s: float = STARTS_S
    first_s: float = 0.0  # until the first chunk was asked for and there
    largest_bytes: int = 0  # of what goes to a container or comes back
    seconds: list[float] = field(default_factory=list)  # of the engine, by chunk

    def map(self, line: Iterator[tuple[Chunk, int]]) -> Iterator[Receipt | Failure]:
        """Embed chunks and yield what they came to, as containers with IN_FLIGHT chunks each would."""
        free = [STARTS_S] * self.n_containers  # when each engine has done what it was given
        heapq.heapify(free)
        flying: list[tuple[float, str, Receipt]] = []

        def hand_out() -> None:
            while len(flying) < IN_FLIGHT * self.n_containers:
                before = time.process_time()
                each = next(line, None)
                if each is None:
                    return
                self.first_s = self.first_s or time.perf_counter() - self.began
                sent = pickle.dumps(pack(each[0]))
                self.now_s += time.process_time() - before
                receipt = self._made(each[0])
                back = pickle.dumps(pack(receipt))
                self.largest_bytes = max(self.largest_bytes, len(sent), len(back))
                takes_s = receipt.tokens / TOKENS_PER_S
                self.seconds.append(takes_s)
                done_s = max(heapq.heappop(free), self.now_s) + takes_s
                heapq.heappush(free, done_s)
                found = unpack_outcome(pickle.loads(back))
                assert isinstance(found, Receipt)
                heapq.heappush(flying, (done_s, receipt.chunk, found))

        hand_out()
        while flying:
            done_s, _, receipt = heapq.heappop(flying)
            self.now_s = max(self.now_s, done_s)
            before = time.process_time()
            yield receipt
            self.now_s += time.process_time() - before
            hand_out()

    def one(self, chunk: Chunk, deaths: int) -> Receipt | Failure:
        """Embed a chunk by itself."""
        [outcome] = self.map(iter([(chunk, deaths)]))
        return outcome

    def _made(self, chunk: Chunk) -> Receipt:
        self.store.data_path(chunk.part_name).write_bytes(b"1")
        n_rows = chunk.n_rows
        return Receipt(
            chunk=chunk.id,
            part=chunk.part_name,
            has_rejects=False,
            fingerprint=self.store.root.name,
            spans=chunk.spans,
            input_rows=n_rows,
            embedded_rows=n_rows,
            rejected_rows=0,
            passages=n_rows,
            truncated=0,
            tokens=n_rows * WORDS,
            engine_calls=1,
            engine_texts=n_rows,
            engine_s=n_rows * WORDS / TOKENS_PER_S,
            size_bytes=1,
            checksum="0" * 32,
        )


def simulate(n_files: int, n_rows: int, n_containers: int, output: Path) -> dict[str, Any]:
    """Run over `n_files` files of `n_rows` rows each; return what the driver took, by name and unit."""
    ROWS["each"] = n_rows
    source = output.parent / "in"
    source.mkdir()
    shards = [
        Shard(source=f"{at // 1000:04}/{at:07}{ENDING}", size_bytes=n_rows * ROW_BYTES // 4, mtime_ns=at)
        for at in range(n_files)
    ]
    found, store = Found(root=source, shards=shards, left_out=""), Store(root=output)
    config: Config = load_config(CONFIG, ["run.chunk_tokens=0"])
    began, began_cpu = time.perf_counter(), time.process_time()
    pool = Virtual(n_containers=n_containers, began=began, store=store)

    def fan_out(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        return dispatch(chunks, job, store, pool)

    options = RunOptions(tokens_per_s=TOKENS_PER_S)
    with (
        patch.dict(READERS, {ENDING: Synthetic}),
        patch("pipeline.driver.plan.find_files", lambda _: found),
        patch("pipeline.driver.run.find_files", lambda _: found),
        patch("pipeline.corpus.shards._why_no_file", lambda _: ""),
        patch("pipeline.driver.run.MAX_COUNTED_ROWS", 0),  # the parts are empty here
    ):
        outcome = run(str(source), store, config, fan_out=fan_out, options=options)
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        assert outcome.run.state == "complete", outcome.shortfall()
        assert outcome.totals["input_rows"] == n_files * n_rows
        n_chunks = outcome.totals["parts"]
    work_s = sum(pool.seconds)
    return {
        "files": n_files,
        "rows": n_files * n_rows,
        "chunks": n_chunks,
        "seconds": round(took_s, 1),
        "driver_cpu_ms_per_chunk": round(1000 * cpu_s / n_chunks, 2),
        "first_chunk_s": round(pool.first_s, 2),
        "peak_rss_mb": round(peak_rss_bytes() / 1e6),
        "largest_message_bytes": pool.largest_bytes,
        "manifest_bytes": store.manifest_path.stat().st_size,
        "containers": n_containers,
        "efficiency": round(work_s / n_containers / (pool.now_s - STARTS_S), 3),
        "by_containers": {n: efficiency(pool.seconds, n, cpu_s / n_chunks) for n in (1, 4, 16, 64, 256, 1000)},
    }


def efficiency(seconds: Sequence[float], n_containers: int, driver_s: float) -> float:
    """Return the engine's seconds as a share of what containers are paid for, from their start to the last chunk.

    Chunks are handed out in order, one each `driver_s`; each goes to the container that is free first.
    """
    free = [STARTS_S] * n_containers
    for at, takes_s in enumerate(seconds):
        heapq.heapreplace(free, max(free[0], STARTS_S + at * driver_s) + takes_s)
    return round(sum(seconds) / (n_containers * max(free)), 3)


def main() -> int:
    """Simulate as the arguments say, in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=10_000, help="of each file")
    parser.add_argument("--containers", type=int, default=4)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        print(json.dumps(simulate(asked.files, asked.rows, asked.containers, folder / "out"), indent=2))
    finally:
        shutil.rmtree(folder)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
