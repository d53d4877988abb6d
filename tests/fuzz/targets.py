"""What the fuzzer throws bytes at: each target raises only when a promise is broken."""

from __future__ import annotations

import bz2
import contextlib
import csv
import functools
import gzip
import io
import json
import lzma
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.chunk import ChunkSize, Density, ShardSpan, Span
from pipeline.corpus.chunk_reader import ChunkReader
from pipeline.corpus.documents import DocumentReader
from pipeline.corpus.ipc import IpcReader
from pipeline.corpus.parquet import ParquetReader
from pipeline.corpus.reader import Reader, reader_at
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.shards import find_shards, open_corpus
from pipeline.corpus.stream import PACKINGS
from pipeline.dataset.describe import status
from pipeline.dataset.footer import RECEIPT_KEY, RECIPE_KEY
from pipeline.dataset.index import index_vectors
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.store import Store
from pipeline.driver.fan_out import fan_out_here
from pipeline.driver.inventory import RunOptions
from pipeline.driver.plan import make_plan
from pipeline.driver.run import run
from pipeline.errors import CorpusError, PipelineError
from pipeline.tools.coverage import coverage
from pipeline.tools.rejects import list_rejects
from pipeline.tools.search import Searcher
from pipeline.tools.slice import slice_dataset
from pipeline.tools.verify import verify
from tests.support import local_config, texts, write_jsonl

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONFIG = local_config("engine.kind=hashing", 'corpus.keep=["k"]')
COLUMNS = Columns(text=("text",), template=None, id="id", keep=("k",)).typed({"k": pa.string()})
DOCUMENT = Columns(text=("title", "text"), template="{title}\n{text}", id="id", keep=("name", "path"))
DENSITY = Density(tokens_per_row=1.0, tokens_per_byte=1.0)
MAX_ROWS = 2000


@functools.cache
def _folder() -> Path:
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None))


def fuzz_lines(data: bytes) -> None:
    """Lines of JSON, plain and packed."""
    _read_texts(data, tuple(f".jsonl{packing}" for packing in PACKINGS))


def fuzz_json(data: bytes) -> None:
    """A JSON array or lines, plain and packed; of what the standard library takes for an array, all elements."""
    rows = _read_texts(data, (".json", ".json.gz"))
    if rows is None or data[0] % 2:
        return
    with contextlib.suppress(ValueError, RecursionError):
        expected = json.loads(data[1:].decode("utf-8-sig"))
        assert not isinstance(expected, list) or rows == len(expected)


def fuzz_delimited(data: bytes) -> None:
    """CSV and TSV, plain and packed; of what Python's module reads, all records and each with its text."""
    rows = _read_texts(data, (".csv", ".tsv", ".csv.gz"))
    if rows is None or data[0] % 3 == 2:
        return
    with contextlib.suppress(UnicodeDecodeError, csv.Error):
        text = io.StringIO(data[1:].decode("utf-8-sig"), newline="")
        records = list(csv.reader(text, delimiter=",\t"[data[0] % 3]))
        header = next((at for at, values in enumerate(records) if values), len(records) - 1)
        assert rows == len([values for values in records[header + 1 :] if values])


def fuzz_documents(data: bytes) -> None:
    """A text or Markdown is one row with a title, or one reject."""
    if not data:
        return
    path = _folder() / f"a{('.txt', '.md')[data[0] % 2]}"
    path.write_bytes(data[1:])
    reader = DocumentReader(path, path.name)
    with contextlib.suppress(CorpusError):
        reader.column_types(DOCUMENT, ())
        found = reader.read(Span(row_start=0, row_stop=1), DOCUMENT)
        assert found.n_rows == 1
        assert len(found.kept) in (0, len(found.row))
        _check_unicode(found)


def _read_texts(data: bytes, suffixes: Sequence[str]) -> int | None:
    """Return how many rows a file has; None of one that is refused.

    The first byte chooses the format and the size of a span. Every row number is a text or a reject, once, and those
    are the same in spans of another size.
    """
    if not data:
        return None
    path = _folder() / f"a{suffixes[data[0] % len(suffixes)]}"
    path.write_bytes(data[1:])
    with contextlib.suppress(CorpusError), contextlib.closing(reader_at(path, "a" + path.suffix)) as reader:
        with contextlib.suppress(CorpusError):
            reader.column_types(COLUMNS, COLUMNS.text)
        reader.column_types(COLUMNS, ())
        expected = np.concatenate([np.array([], np.int64), *reader.row_numbers()])
        some, whole = (_rows(reader, size) for size in (1 + data[0], 1 << 20))
        assert some == whole
        assert [row for row, _ in whole] == expected[expected < MAX_ROWS].tolist()
        sum(len(block.texts(range(len(block.sizes)))) for block in reader.blocks(COLUMNS, None))
        return len(expected)
    return None


def _rows(reader: Reader, size: int) -> list[tuple[int, str]]:
    start = Span(row_start=0, row_stop=0)
    cuts = reader.cut(start, DENSITY, ChunkSize(tokens=size), is_open=True, limit=MAX_ROWS, kinds={"k": set()})
    rows: list[tuple[int, str]] = []
    for each in [reader.read(span, COLUMNS) for span, _ in cuts]:
        assert len(each.text) == len(each.id) == len(each.row)
        assert len(each.row) in (0, len(each.kept))
        _check_unicode(each)
        rows += [*zip(each.row, each.text, strict=True), *((row, why.reason) for row, _, why in each.rejects)]
    return sorted(rows)


def _check_unicode(rows: Rows) -> None:
    "".join((*rows.text, *rows.id, *(why.text or "" for _, _, why in rows.rejects))).encode()


def fuzz_parquet(data: bytes) -> None:
    """A Parquet file has all its rows or is refused."""
    path = _folder() / "a.parquet"
    path.write_bytes(data)
    _read_table(path, lambda: ParquetReader(path, "a")._size()[0])


def fuzz_ipc(data: bytes) -> None:
    """An Arrow IPC file or stream has all its rows or is refused."""
    path = _folder() / "a.arrow"
    path.write_bytes(data)
    _read_table(path, lambda: sum(map(len, IpcReader(path, "a").row_numbers())))


def _read_table(path: Path, count: Callable[[], int]) -> None:
    with contextlib.suppress(CorpusError), ChunkReader() as chunks:
        root, shards = find_shards(str(path))
        corpus = open_corpus(root, shards, CONFIG.corpus)
        n_rows = count()
        assert n_rows >= 0
        for start in range(0, min(n_rows, MAX_ROWS), MAX_ROWS // 2):
            span = Span(row_start=start, row_stop=min(n_rows, start + MAX_ROWS // 2))
            rows = chunks.read(root, corpus.columns, [ShardSpan(shard=shards[0], span=span, last=True)])
            assert rows.n_rows == span.n_rows
            assert len(rows.kept) == len(rows.text) == len(rows.id)
            "".join((*rows.text, *rows.id)).encode()
            rows.kept.validate(full=True)


@functools.cache
def _dataset() -> Store:
    source = write_jsonl(_folder() / "in/a.jsonl", [*texts(5), {"id": "x", "k": "y", "text": ""}])
    store = Store(root=_folder() / "out")
    run(str(source), store, CONFIG, fan_out=fan_out_here(store))
    return store


def fuzz_manifest(data: bytes) -> None:
    """Whatever a manifest says, what reads it tells or refuses."""
    store = _dataset()
    store.manifest_path.write_bytes(data)
    manifest = store.read_manifest()
    json.dumps(status(store, manifest))
    _read(store, manifest)


@functools.cache
def _files() -> dict[str, bytes]:
    """Return the bytes of a sound dataset's part, of its rejects and of its manifest."""
    store = _dataset()
    [part] = store.part_sizes()
    paths = {"part": store.data_path(part), "rejects": store.rejects_path(part), "manifest": store.manifest_path}
    return {name: path.read_bytes() for name, path in paths.items()}


def _pages(data: bytes) -> bytes:
    """Return a Parquet file up to its footer."""
    return data[: -8 - int.from_bytes(data[-8:-4], "little")]


def fuzz_footer(data: bytes) -> None:
    """A part is taken for what it is or refused; the first byte chooses what the rest is.

    It is the footer of a part or of its rejects, or in a sound footer the receipt or the recipe.
    """
    if not data:
        return
    store, files = _dataset(), _files()
    [part] = store.part_sizes()
    kind, new = data[0] % 4, data[1:]
    footer = new + len(new).to_bytes(4, "little") + b"PAR1"
    store.rejects_path(part).write_bytes(_pages(files["rejects"]) + footer if kind == 1 else files["rejects"])
    if kind < 2:
        store.data_path(part).write_bytes(_pages(files["part"]) + footer if kind == 0 else files["part"])
    else:
        table = pq.read_table(pa.BufferReader(files["part"]))
        key = RECEIPT_KEY if kind == 2 else RECIPE_KEY
        pq.write_table(table.replace_schema_metadata(table.schema.metadata | {key: new}), store.data_path(part))
    store.manifest_path.write_bytes(files["manifest"])
    _read(store, store.read_manifest())
    store.manifest_path.unlink()
    store.has_receipt(part)
    store.recipe_of(part)
    if (found := store.receipt_of(part)) is not None:
        assert (found.part, found.passages) == (part, pq.read_table(store.data_path(part)).num_rows)
        assert found.size_bytes == store.data_path(part).stat().st_size
    _read(store, store.read_manifest())


def _read(store: Store, manifest: Manifest) -> None:
    """Read a dataset in every way that loads no engine; raises what is no word to a person."""
    source, sliced = str(_folder() / "in"), Store(root=_folder() / "sliced")
    shutil.rmtree(sliced.root, ignore_errors=True)
    for call in (
        lambda: verify(store, manifest),
        lambda: list(list_rejects(store, manifest)),
        lambda: Searcher(store).find(np.eye(384)[0], 3),
        lambda: coverage(source, store, manifest),
        lambda: index_vectors([store.data_path(part) for part in store.part_sizes()], 384),
        lambda: slice_dataset(store, manifest, 8, sliced),
        lambda: make_plan(source, store, CONFIG),
        lambda: make_plan(source, store, CONFIG, RunOptions(rehash=True)),
    ):
        with contextlib.suppress(PipelineError):
            call()


def seeds_of_lines() -> list[bytes]:
    """Return small files of lines, plain and packed."""
    body = b'\xef\xbb\xbf{"text": "a", "id": 1}\n\n{"text": null}\r\n{"k": [{"z": NaN}], "text": "\\ud800"}\n{\n"\xff"'
    packed = [gzip.compress(body), zstd.compress(body), bz2.compress(body), lzma.compress(body)]
    return [
        b"\x00" + body,
        *(bytes([at]) + each for at, each in enumerate(packed, 1)),
        b"\x05" + b'{"text": "b"}\n' * 3,
    ]


def seeds_of_json() -> list[bytes]:
    """Return small arrays, plain and packed, and a file of lines."""
    array = b'[{"text": "a\\"]", "id": 1},\n {"text": "b", "k": [{}, {"z": [1]}]}, null , {"text": "\\\\"}\n]\n'
    packed = gzip.compress(array)
    return [b"\x00" + array, b"\x01" + packed, b"\x08" + array[: array.index(b"null")], b'\x02{"text": "b"}\n' * 3]


def seeds_of_delimited() -> list[bytes]:
    """Return small CSV and TSV, plain and packed, with quotes in every place."""
    table = b'id,text,k\r\n1,"a ""b"", c\nd",\n\n2,e "f"\n3,"\xff",x\ny,z,\r4,"open'
    sound = b'\xef\xbb\xbfid,text,k\n1,"a\r\nb",x\n2,"","""y"""\n'
    packed = gzip.compress(table)
    return [b"\x00" + table, b"\x01" + table.replace(b",", b"\t"), b"\x02" + packed, b"\x03" + sound, b"\x3c" + sound]


def seeds_of_documents() -> list[bytes]:
    """Return a text, and Markdown with front matter, code and headings of both kinds."""
    page = b"---\ntitle: x\n---\n```\n# no heading\n```\n  ## A heading ##\n\nAnother\n===\n* \xc3\xa9\n"
    return [b"\x00plain \xff text", b"\x01" + page, b"\x03\xef\xbb\xbfTitle\r\n---\r\ntext", b"\x01~~~\n# a\n~~~~\n#\n"]


def seeds_of_ipc() -> list[bytes]:
    """Return small Arrow IPC files and streams of several types, plain and packed."""
    table = pa.table({"text": ["one", None, "", "two"], "id": [1, None, 3, 4], "k": [{"a": ["x"]}, None, {}, {}]})
    odd = table.set_column(0, "text", table.column("text").cast(pa.binary()).dictionary_encode())
    found = []
    for each, new, codec in (
        (table, pa.ipc.new_file, None),
        (table, pa.ipc.new_stream, "lz4"),
        (odd, pa.ipc.new_file, "zstd"),
        (odd, pa.ipc.new_stream, None),
    ):
        sink = pa.BufferOutputStream()
        with new(sink, each.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
            writer.write_table(each, max_chunksize=3)
        found.append(sink.getvalue().to_pybytes())
    return found


def seeds_of_parquet() -> list[bytes]:
    """Return small Parquet files of several versions, encodings and types."""
    table = pa.table(
        {
            "text": ["one", None, "", "two two"],
            "id": pa.array([1, None, 3, 4]),
            "k": [{"a": ["x"]}, None, {"a": None}, {"a": []}],
        }
    )
    as_bytes = table.set_column(0, "text", table.column("text").cast(pa.binary()).dictionary_encode())
    found = []
    for each, options in (
        (table, {"compression": "none"}),
        (table, {"compression": "zstd", "write_page_checksum": True}),
        (table, {"compression": "snappy", "data_page_version": "2.0", "use_dictionary": False}),
        (as_bytes, {"compression": "gzip", "row_group_size": 2, "store_schema": True}),
        (table.drop_columns(["k"]), {"compression": "none", "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}),
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(each, sink, **{"use_dictionary": "column_encoding" not in options, **options})
        found.append(sink.getvalue().to_pybytes())
    return found


@functools.cache
def seeds_of_manifest() -> list[bytes]:
    """Return a manifest, whole and in pieces."""
    data = _dataset().manifest_path.read_bytes()
    whole = data.splitlines(keepends=True)
    return [data, data[: len(data) // 2], *whole]


@functools.cache
def seeds_of_footers() -> list[bytes]:
    """Return the footers of a part and of its rejects, and the receipt and the recipe in the part's."""
    files = _files()
    footers = [files[name][len(_pages(files[name])) : -8] for name in ("part", "rejects")]
    found = pq.read_schema(pa.BufferReader(files["part"])).metadata
    return [bytes([kind]) + data for kind, data in enumerate([*footers, found[RECEIPT_KEY], found[RECIPE_KEY]])]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "lines": (fuzz_lines, seeds_of_lines),
    "json": (fuzz_json, seeds_of_json),
    "delimited": (fuzz_delimited, seeds_of_delimited),
    "documents": (fuzz_documents, seeds_of_documents),
    "parquet": (fuzz_parquet, seeds_of_parquet),
    "ipc": (fuzz_ipc, seeds_of_ipc),
    "manifest": (fuzz_manifest, seeds_of_manifest),
    "footer": (fuzz_footer, seeds_of_footers),
}
