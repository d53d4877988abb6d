"""Arrow IPC shards: the same rows whatever the type, the batches, the packing and the span."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.corpus import ipc
from pipeline.corpus.ipc import IpcReader
from pipeline.corpus.rows import Columns, Rows
from pipeline.errors import CorpusError

COLUMNS = Columns(text=("text",), template=None, id="id", keep=("k",)).typed({"k": pa.int64()})
DENSITY = Density(tokens_per_row=1, tokens_per_byte=1)
TYPES = [pa.string(), pa.string_view(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string())]
texts = st.lists(st.none() | st.text(max_size=12), max_size=20)
numbers = itertools.count()


def write(folder: Path, table: pa.Table, *, batch: int = 3, is_stream: bool = False, codec: str | None = None) -> Path:
    path = folder / f"{next(numbers)}.arrow"
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with (pa.ipc.new_stream if is_stream else pa.ipc.new_file)(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch)
    return path


def as_type(values: list[str | None], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values).cast(kind) if kind != pa.string_view() else pa.array(values, kind)


def table_of(values: list[str | None], kind: pa.DataType | None = None) -> pa.Table:
    return pa.table(
        {"text": as_type(values, kind or pa.string()), "id": list(range(len(values))), "k": list(range(len(values)))}
    )


def read(reader: IpcReader, step: int) -> list[Rows]:
    size = ChunkSize(tokens=step)
    start = Span(row_start=0, row_stop=0)
    spans = [span for span, _ in reader.cut(start, DENSITY, size, is_open=True, limit=None, kinds={})]
    return [reader.read(span, COLUMNS) for span in spans]


@pytest.mark.parametrize("kind", TYPES, ids=str)
@given(
    values=texts,
    batch=st.integers(1, 7),
    step=st.integers(1, 9),
    small=st.integers(1, 4),
    is_stream=st.booleans(),
    codec=st.sampled_from([None, "lz4", "zstd"]),
)
def test_rows_do_not_depend_on_type_batches_packing_or_spans(  # noqa: PLR0913  drawn
    values: list[str | None], batch: int, step: int, small: int, is_stream: bool, codec: str | None,
    kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ipc, "BATCH_ROWS", small)
    path = write(tmp_path, table_of(values, kind), batch=batch, is_stream=is_stream, codec=codec)
    with contextlib.closing(IpcReader(path, "s")) as reader:
        found = read(reader, step)
    expected = [(str(row), text, row) for row, text in enumerate(values) if text and not text.isspace()]
    kept = [value for each in found for value in each.kept.column("k").to_pylist()]
    rows = [(row_id, text) for each in found for row_id, text in zip(each.id, each.text, strict=True)]
    assert [(*row, k) for row, k in zip(rows, kept, strict=True)] == expected
    assert sum(each.n_rows for each in found) == len(values)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_file_that_is_cut_short_is_refused_or_has_whole_batches(tmp_path: Path, is_stream: bool) -> None:
    path = write(tmp_path, table_of([f"text {row}" for row in range(12)]), is_stream=is_stream)
    data, n_whole = path.read_bytes(), 0
    for n_bytes in range(0, len(data), 5):
        path.write_bytes(data[:n_bytes])
        with contextlib.closing(IpcReader(path, "s")) as reader:
            try:
                assert sum(each.n_rows for each in read(reader, 4)) % 3 == 0
                n_whole += 1
            except CorpusError as error:
                assert "expected" in str(error)  # noqa: PT017  one of hundreds
    assert is_stream or not n_whole


@pytest.mark.parametrize("kind", [pa.binary(), pa.string(), pa.large_string()], ids=str)
def test_bytes_that_are_no_text_are_one_reject(tmp_path: Path, kind: pa.DataType) -> None:
    invalid = pa.array([b"good", b"\xff", b"fine"], pa.large_binary() if kind == pa.large_string() else pa.binary())
    columns = [invalid.view(kind), pa.array([1, 2, 3]), pa.array([1, 2, 3])]
    path = write(tmp_path, pa.table(columns, names=["text", "id", "k"]))
    with contextlib.closing(IpcReader(path, "s")) as reader:
        [rows] = read(reader, 9)
    assert (rows.text, [(row, why.reason) for row, _, why in rows.rejects]) == (["good", "fine"], [(1, "invalid_utf8")])


def test_a_batch_that_would_kill_the_process_is_refused(tmp_path: Path) -> None:
    broken = pa.DictionaryArray.from_arrays(pa.array([1 << 30]), pa.array(["a"]), safe=False)
    path = write(tmp_path, pa.table({"text": broken, "id": [1], "k": [1]}))
    with contextlib.closing(IpcReader(path, "s")) as reader, pytest.raises(CorpusError, match="that can be read"):
        read(reader, 9)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, pa.table({"body": ["a"], "n": [1]}))
    with contextlib.closing(IpcReader(path, "s")) as reader:
        with pytest.raises(CorpusError, match="expected column 'text', found body, n"):
            reader.column_types(COLUMNS, ("text",))
        with pytest.raises(CorpusError, match="expected text in column 'n', found int64"):
            reader.column_types(Columns(text=("n",), template=None, id=None), ("n",))
