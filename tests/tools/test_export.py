"""Exports: what the library of each format reads is what the dataset has, and nothing else is ever overwritten."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import lance
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.arguments import FORMATS
from pipeline.dataset import Run, Store
from pipeline.tools import TARGETS
from pipeline.tools.export.place import published
from pipeline.tools.quantize import calibrate, from_int8, to_bits, to_int8
from pipeline.vectors import to_numpy
from tests.support import HASHING, embed_corpus, texts, write_jsonl, write_parquet

IDS = ["id", "source", "row", "passage"]
ODD = [
    {"id": 'a "b"\t\\N', "text": "tab and quote"},
    {"id": "nul \0", "text": "a nul \0 in it"},
    {"id": "é✓", "text": "ü"},
]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset of several parts: odd ids, a row of several passages, and a kept column that may be null."""
    folder = tmp_path_factory.mktemp("export")
    long = {"id": "long", "text": " ".join(f"long{i}" for i in range(600))}
    rows: list[dict[str, Any]] = [row | {"note": None if i % 3 else f"note {i}"} for i, row in enumerate(texts(700))]
    write_jsonl(folder / "in/a.jsonl", rows)
    write_parquet(folder / "in/b.parquet", [row | {"note": "n"} for row in (*ODD, long, *texts(100, start=700))])
    settings = ("run.chunk_tokens=2000", 'corpus.keep=["text","note"]', "corpus.on_long=split")
    sets = [word for setting in settings for word in ("--set", setting)]
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / "out", *HASHING, *sets)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def table(output: Path) -> pa.Table:
    """Return the dataset as a reader of its folder has it."""
    return ds.dataset(output / "data", format="parquet").to_table()


@pytest.fixture(scope="module")
def vectors(table: pa.Table) -> np.ndarray:
    """Return the vectors of the dataset in float32."""
    return to_numpy(table.column("embedding")).astype(np.float32)


def export(output: Path, target: str, destination: Path) -> Path:
    done = embed_corpus("export", output, "--to", target, destination)
    assert (done.returncode, done.stderr) == (0, "")
    return destination


def numbers_in(table: pa.Table) -> np.ndarray:
    column = table.column("embedding").combine_chunks()
    numbers: np.ndarray = column.flatten().to_numpy().reshape(len(column), -1)
    return numbers


def about_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"embed_corpus.export"])
    return found


def test_the_command_line_knows_the_formats_that_there_are() -> None:
    assert list(TARGETS) == list(FORMATS)
    refused = embed_corpus("export", "out", "--to", "csv", "dest")
    assert (refused.returncode, "parquet-f32" in refused.stderr) == (2, True)


def test_parquet_f32_has_the_same_vectors_in_float32_and_every_other_column(
    output: Path, table: pa.Table, vectors: np.ndarray, tmp_path: Path
) -> None:
    found = pq.read_table(export(output, "parquet-f32", tmp_path / "f32.parquet"))
    assert found.schema.field("embedding").type == pa.list_(pa.float32(), 384)
    assert (numbers_in(found) == vectors).all()
    assert found.drop_columns("embedding").equals(table.drop_columns("embedding"))
    assert about_of(tmp_path / "f32.parquet")["passages"] == len(table) > 804


def test_npy_is_mapped_by_numpy_with_the_ids_beside(
    output: Path, table: pa.Table, vectors: np.ndarray, tmp_path: Path
) -> None:
    folder = export(output, "npy", tmp_path / "npy")
    found = np.load(folder / "vectors.npy", mmap_mode="r")
    assert (found.dtype, found.shape) == (np.float32, vectors.shape)
    assert (found == vectors).all()
    assert pq.read_table(folder / "ids.parquet").equals(table.select(IDS))
    assert json.loads((folder / "export.json").read_text())["files"] == ["ids.parquet", "vectors.npy"]


def test_lance_has_the_same_vectors_and_every_other_column(
    output: Path, table: pa.Table, vectors: np.ndarray, tmp_path: Path
) -> None:
    found = lance.dataset(export(output, "lance", tmp_path / "d.lance"))
    assert (numbers_in(found.to_table()) == vectors).all()
    assert found.to_table().drop_columns("embedding").equals(table.drop_columns("embedding"))
    hits = found.to_table(
        columns=["id", "_distance"], nearest={"column": "embedding", "q": vectors[5], "k": 1, "metric": "cosine"}
    )
    assert hits.column("id").to_pylist() == [table.column("id")[5].as_py()]


def test_faiss_reads_an_index_of_inner_products(
    output: Path, table: pa.Table, vectors: np.ndarray, tmp_path: Path
) -> None:
    folder = export(output, "faiss", tmp_path / "faiss")
    index = faiss.read_index(str(folder / "index.faiss"))
    assert (type(index), index.metric_type) == (faiss.IndexFlatIP, faiss.METRIC_INNER_PRODUCT)
    assert (index.reconstruct_n(0, index.ntotal) == vectors).all()
    scores, found = index.search(vectors[:20], 1)
    assert found[:, 0].tolist() == list(range(20))
    assert scores[:, 0] == pytest.approx(1, abs=1e-3)
    assert pq.read_table(folder / "ids.parquet").equals(table.select(IDS))
    made = faiss.IndexFlatIP(384)
    made.add(vectors)
    assert (folder / "index.faiss").read_bytes() == faiss.serialize_index(made).tobytes()


def copied(data: bytes) -> Iterator[list[bytes | None]]:
    """Yield the fields of each row of a file in PostgreSQL's binary format, as its manual has it."""
    assert data[:19] == b"PGCOPY\n\xff\r\n\0" + bytes(8)
    at = 19
    while (n_fields := struct.unpack_from(">h", data, at)[0]) != -1:
        at += 2
        fields: list[bytes | None] = []
        for _ in range(n_fields):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            fields.append(None if length == -1 else data[at : at + length])
            at += max(length, 0)
        yield fields
    assert len(data) == at + 2


def test_pgvector_has_rows_that_copy_reads(output: Path, table: pa.Table, vectors: np.ndarray, tmp_path: Path) -> None:
    folder = export(output, "pgvector", tmp_path / "pg")
    rows = list(copied((folder / "vectors.copy").read_bytes()))
    assert len(rows) == len(table)
    for fields, expected in zip(rows, table.select([*IDS, "text"]).to_pylist(), strict=True):
        id, source, row, passage, text, _ = (field or b"" for field in fields)
        assert (id.decode(), source.decode()) == (expected["id"].replace("\0", "\ufffd"), expected["source"])
        assert struct.unpack(">qi", row + passage) == (expected["row"], expected["passage"])
        assert text.decode() == expected["text"].replace("\0", "\ufffd")
    found = np.array([np.frombuffer(fields[-1] or b"", ">f4", offset=4) for fields in rows])
    assert (found == vectors).all()
    assert {(fields[-1] or b"")[:4] for fields in rows} == {struct.pack(">hh", 384, 0)}
    sql = (folder / "schema.sql").read_text()
    assert '"row" bigint' in sql
    assert "embedding vector(384)" in sql


def test_a_text_that_a_part_does_not_have_is_null_in_pgvector(tmp_path: Path) -> None:
    run = ("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    write_jsonl(tmp_path / "in/a.jsonl", texts(3))
    assert embed_corpus(*run, "--set", "corpus.store_text=false").returncode == 0
    (tmp_path / "in/a.jsonl").unlink()
    write_jsonl(tmp_path / "in/b.jsonl", texts(2, start=3))
    assert embed_corpus(*run, "--keep-missing").returncode == 0
    folder = export(tmp_path / "out", "pgvector", tmp_path / "pg")
    found = {(fields[0], fields[4]) for fields in copied((folder / "vectors.copy").read_bytes())}
    expected = [(row["id"], None if i < 3 else row["text"]) for i, row in enumerate(texts(5))]
    assert found == {(row_id.encode(), text and text.encode()) for row_id, text in expected}


def test_int8_is_within_half_a_step(output: Path, table: pa.Table, vectors: np.ndarray, tmp_path: Path) -> None:
    found = pq.read_table(export(output, "int8", tmp_path / "int8.parquet"))
    assert found.schema.field("embedding").type == pa.list_(pa.int8(), 384)
    about = about_of(tmp_path / "int8.parquet")
    scale, offset = (np.array(about[name], np.float64) for name in ("scale", "offset"))
    error = np.abs(numbers_in(found) * scale + offset - vectors)
    assert (error <= scale * 0.5001).all()
    assert (scale <= (vectors.max(axis=0) - vectors.min(axis=0)) / 255 * 1.0001).all()
    assert found.drop_columns("embedding").equals(table.drop_columns("embedding"))


def test_binary_has_the_signs(output: Path, table: pa.Table, vectors: np.ndarray, tmp_path: Path) -> None:
    found = pq.read_table(export(output, "binary", tmp_path / "bits.parquet"))
    assert found.schema.field("embedding").type == pa.list_(pa.uint8(), 48)
    assert (np.unpackbits(numbers_in(found), axis=1).astype(bool) == (vectors > 0)).all()
    assert found.drop_columns("embedding").equals(table.drop_columns("embedding"))


MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(1, 19)),
    elements=st.floats(-1, 1, width=16, allow_subnormal=False),
)


@given(MATRICES, st.integers(1, 20))
def test_steps_of_any_pieces_span_any_vectors(matrix: np.ndarray, n_rows: int) -> None:
    steps = calibrate(matrix[at : at + n_rows] for at in range(0, len(matrix), n_rows))
    error = np.abs(from_int8(to_int8(matrix, steps), steps).astype(np.float64) - matrix)
    assert (error <= steps.scale * 0.5001 + 1e-6).all()
    assert (np.unpackbits(to_bits(matrix), axis=1, count=matrix.shape[1]).astype(bool) == (matrix > 0)).all()


@pytest.mark.parametrize("target", FORMATS)
def test_a_damaged_part_ends_it_without_a_destination(output: Path, tmp_path: Path, target: str) -> None:
    copy = Path(shutil.copytree(output, tmp_path / "out"))
    part = sorted((copy / "data").iterdir())[-1]
    group = pq.read_metadata(part).row_group(0)
    column = group.column(group.num_columns - 1)
    data = bytearray(part.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 4
    part.write_bytes(data)
    for _ in ("a page that does not fit its checksum", "no part at all"):
        refused = embed_corpus("export", copy, "--to", target, tmp_path / "dest")
        assert refused.returncode == 6, refused.stderr
        assert part.name in refused.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
        part.unlink(missing_ok=True)


def test_a_part_with_fewer_passages_than_its_receipt_says_is_damage(output: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(output, tmp_path / "out"))
    part = sorted((copy / "data").iterdir())[0]
    whole = pq.read_table(part)
    pq.write_table(whole.slice(1), part)
    refused = embed_corpus("export", copy, "--to", "npy", tmp_path / "dest")
    assert refused.returncode == 6
    assert f"{len(whole) - 1:,} passages where its receipt says {len(whole):,}" in refused.stderr


def test_an_incomplete_dataset_is_exported_and_said_to_be_one(output: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(output, tmp_path / "out"))
    Store(root=copy).append(Run(state="incomplete", input="in", started_at=2.0))
    done = embed_corpus("export", copy, "--to", "npy", tmp_path / "npy")
    assert done.returncode == 0
    assert "out: incomplete; `embed-corpus run` completes it" in done.stderr
    assert json.loads((tmp_path / "npy/export.json").read_text())["state"] == "incomplete"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["file", "folder", "link", "claims", "added", "dataset", "inside", "parquet"])
def test_what_is_no_export_is_never_replaced(output: Path, tmp_path: Path, kind: str) -> None:
    copy = Path(shutil.copytree(output, tmp_path / "out"))
    destination = {"dataset": copy, "inside": copy / "npy"}.get(kind, tmp_path / "dest")
    if kind == "file":
        destination.write_text("mine")
    elif kind == "parquet":
        write_parquet(destination, [{"a": 1}])
    elif kind in ("folder", "claims"):
        destination.mkdir()
        (destination / ("export.json" if kind == "claims" else "mine")).write_text('{"format": "npy"}')
    elif kind in ("link", "added"):
        export(copy, "npy", tmp_path / ("real" if kind == "link" else "dest"))
        if kind == "link":
            destination.symlink_to("real")
        else:
            (destination / "index.ivf").write_text("mine")
    before = contents(tmp_path)
    refused = embed_corpus("export", copy, "--to", "npy", destination)
    assert refused.returncode == 2, refused.stderr
    assert str(destination) in refused.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("first", "second"), [("npy", "faiss"), ("npy", "int8"), ("int8", "binary"), ("binary", "npy")]
)
def test_an_earlier_export_is_replaced_whatever_its_format(
    output: Path, tmp_path: Path, first: str, second: str
) -> None:
    export(output, first, tmp_path / "dest")
    export(output, second, tmp_path / "dest")
    export(output, second, tmp_path / "alone")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["alone", "dest"]
    alone, dest = (contents(path) if path.is_dir() else {"": path.read_bytes()} for path in sorted(tmp_path.iterdir()))
    assert dest == alone


def test_two_exports_to_one_place_do_not_mix(output: Path, tmp_path: Path) -> None:
    with published(tmp_path / "dest") as path:
        refused = embed_corpus("export", output, "--to", "npy", tmp_path / "dest")
        path.write_text("first")
    assert refused.returncode == 4
    assert (tmp_path / "dest").read_text() == "first"


def test_a_missing_library_is_named_with_the_extra(output: Path, tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    (tmp_path / "no/lance.py").write_text("raise ModuleNotFoundError('No module named lance')")
    env = {"PYTHONPATH": f"{tmp_path / 'no'}:{Path(__file__).parents[2]}"}
    refused = embed_corpus("export", output, "--to", "lance", tmp_path / "dest", env=env)
    assert refused.returncode == 2
    assert "pip install 'embed-corpus[export]'" in refused.stderr
    assert not (tmp_path / "dest").exists()


def test_an_empty_dataset_has_nothing_to_export(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": "a", "text": None}])
    embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    refused = embed_corpus("export", tmp_path / "out", "--to", "npy", tmp_path / "dest")
    assert refused.returncode == 2
    assert "expected passages, found none" in refused.stderr
