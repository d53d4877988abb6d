"""A format is one class and one line in READERS; a chunk reader leaves no file open and mixes nothing up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.chunk import ChunkSize, Density, ShardSpan, Span, cut_rows
from pipeline.cli import main
from pipeline.corpus import ipc
from pipeline.corpus.blocks import Block
from pipeline.corpus.chunk_reader import ChunkReader
from pipeline.corpus.reader import READERS, reader_of, shard_at
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.texts import render
from pipeline.corpus.textual import byte_reader
from pipeline.corpus.textual.record import Kinds
from pipeline.files import VOLUMES_VARIABLE
from tests.support import HASHING, read_dataset, texts, write_jsonl
from tests.support.formats import encoded

COLUMNS = Columns(text=("text",), template=None, id="id")
SIZE = ChunkSize(tokens=500)


class PlainReader:
    """A text a line, as a format that the product does not know might have it."""

    rows_have_places: ClassVar[bool] = True

    def __init__(self, path: Path, source: str) -> None:
        self._path, self._source = path, source

    def column_types(self, columns: Columns, needed: Sequence[str]) -> dict[str, pa.DataType | None]:
        assert needed == ("text",)
        return {"text": pa.string()}

    def head(self, columns: Columns) -> tuple[Rows, int]:
        return self.read(Span(row_start=0, row_stop=2), columns), 0

    def place_at(self, share: float) -> int:
        return 0

    def blocks(self, columns: Columns, place: int | None) -> Iterator[Block]:
        lines = self._lines()
        sizes = np.array([len(line) for line in lines], np.int64)
        yield Block(share=1.0, n_bytes=int(sizes.sum()), sizes=sizes, texts=lambda rows: [lines[row] for row in rows])

    def cut(
        self, gap: Span, density: Density, n_tokens: int, *, is_open: bool, limit: int | None, kinds: Kinds
    ) -> Iterator[tuple[Span, bool]]:
        n_rows = len(self._lines())
        for span in cut_rows(gap.row_start, n_rows if is_open else gap.row_stop, 7):
            yield span, span.row_stop == n_rows

    def byte_of(self, span: Span, row: int) -> int:
        return 0

    def ends_at(self, span: Span) -> bool:
        return span.row_stop == len(self._lines())

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        yield np.arange(len(self._lines()))

    def read(self, span: Span, columns: Columns) -> Rows:
        rows = Rows(kept=pa.table({}))
        for row, line in enumerate(self._lines()[span.row_start : span.row_stop], span.row_start):
            text = render([line], columns)
            assert isinstance(text, str)
            rows.row.append(row)
            rows.id.append(f"{self._source}:{row}")
            rows.text.append(text)
        return rows

    def close(self) -> None:
        """Nothing is open."""

    def _lines(self) -> list[str]:
        return self._path.read_text().splitlines()


def test_a_format_is_a_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, ".txt", PlainReader)
    lines = [row["text"] for row in texts(40)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("\n".join(lines[:30]))
    write_jsonl(tmp_path / "in/b.jsonl", [{"text": text} for text in lines[30:]])
    run = ["run", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *HASHING]
    assert main(run) == 0
    assert main(["verify", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 0
    lines[11] = "another text"
    (tmp_path / "in/a.txt").write_text("\n".join(lines[:30]))
    assert main(["verify", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 3
    assert main(run) == 0
    assert main(["verify", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 0
    table = read_dataset(tmp_path / "out")
    assert table.column("id").to_pylist() == [f"a.txt:{i}" for i in range(30)] + [f"b.jsonl:{i}" for i in range(10)]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_threads_share_a_chunk_reader_and_no_file_stays_open(tmp_path: Path, suffix: str) -> None:
    path = write_jsonl(tmp_path / f"a{suffix}", texts(300))
    shard, density = shard_at(tmp_path, path.name), Density(tokens_per_row=1, tokens_per_byte=1)
    start = Span(row_start=0, row_stop=0)
    spans = READERS[suffix](path, path.name).cut(
        start, density, ChunkSize(tokens=500), is_open=True, limit=None, kinds={}
    )
    chunks = [[ShardSpan(shard=shard, span=span, last=last)] for span, last in spans]
    assert len(chunks) > 10
    with ChunkReader() as reader, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda chunk: reader.read(tmp_path, COLUMNS, chunk).id, [*chunks, *chunks[::-1]]))
    expected = [row["id"] for row in texts(300)]
    assert [row_id for ids in found[: len(chunks)] for row_id in ids] == expected
    assert [row_id for ids in found[: len(chunks) - 1 : -1] for row_id in ids] == expected
    assert not [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and fd.readlink().name == path.name]


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".csv.zst", ".arrow"])
def test_chunks_that_are_read_in_another_order_open_a_file_twice_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """A packed file or a stream can only be read from its start: to open it for each chunk takes time without end."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(texts(300), suffix))
    shard, density = shard_at(tmp_path, path.name), Density(tokens_per_row=1, tokens_per_byte=1)
    cuts = reader_of(tmp_path, path.name).cut(
        Span(row_start=0, row_stop=0), density, ChunkSize(tokens=20), is_open=True, limit=None, kinds={}
    )
    chunks = [[ShardSpan(shard=shard, span=span, last=last)] for span, last in cuts]
    assert len(chunks) > 10
    order = [at ^ 1 for at in range(len(chunks) // 2 * 2)]  # 1, 0, 3, 2, ...
    opened: list[str] = []

    def counted(name: str, kind: Callable[..., Any]) -> Callable[..., Any]:
        def make(*given: Any) -> Any:
            opened.append(name)
            return kind(*given)

        return make

    for module, name in ((byte_reader, "Cursor"), (ipc, "_Decoder")):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    with ChunkReader() as reader:
        found = {at: reader.read(tmp_path, COLUMNS, chunks[at]).id for at in order}
    read = [row_id for at in sorted(found) for row_id in found[at]]
    assert read == [row["id"] for row in texts(300)][: len(read)]
    assert len(opened) <= 2


def test_while_a_reader_is_kept_closed_no_file_is_open_and_reads_wait(tmp_path: Path) -> None:
    """A volume does not reload under an open file, and looks empty while it does."""
    path = write_jsonl(tmp_path / "a.jsonl", texts(300))
    shard, density = shard_at(tmp_path, path.name), Density(tokens_per_row=1, tokens_per_byte=1)
    start = Span(row_start=0, row_stop=0)
    spans = READERS[".jsonl"](path, path.name).cut(
        start, density, ChunkSize(tokens=500), is_open=True, limit=None, kinds={}
    )
    chunks = [[ShardSpan(shard=shard, span=span, last=last)] for span, last in spans] * 5
    with ChunkReader() as reader, ThreadPoolExecutor(3) as pool:
        reading = pool.map(lambda chunk: reader.read(tmp_path, COLUMNS, chunk).n_rows, chunks)
        for _ in range(50):
            with reader.closed():
                assert not [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and fd.readlink() == path]
                path.rename(tmp_path / "hidden")
                (tmp_path / "hidden").rename(path)
        assert sum(reading) == 300 * 5


def test_on_volumes_a_date_has_whole_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", texts(3))
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert shard_at(tmp_path, path.name).mtime_ns == 1_700_000_000_123_456_789
    monkeypatch.setenv(VOLUMES_VARIABLE, "1")
    assert shard_at(tmp_path, path.name).mtime_ns == 1_700_000_000_000_000_000
