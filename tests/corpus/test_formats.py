"""Every format: the same rows are the same ids, hashes and vectors, whatever the file that has them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.cli import main
from pipeline.corpus.reader import READERS, reader_at
from pipeline.corpus.rows import Columns
from tests.support import HASHING, read_dataset, status, texts
from tests.support.formats import ENDINGS, write_rows

ODD = [
    {"id": "odd", "text": 'a "quoted" text,\r\nwith a line break\tand a tab', "kind": "x,y"},
    {"id": "", "text": "caf\u00e9 \u65e5\u672c \U0001f600", "kind": ""},
    {"id": "none", "text": "", "kind": "no text"},
    {"id": "quote", "text": '"', "kind": '""'},
    {"id": "line", "text": "\n", "kind": "\n"},
    {"id": "spaces", "text": "  a  ", "kind": " "},
]
ROWS = [*({**row, "kind": f"kind {at % 3}"} for at, row in enumerate(texts(60))), *ODD]
COLUMNS = Columns(text=("text",), template=None, id="id")
KEEP = ("--set", 'corpus.keep=["kind"]')


def test_every_reader_is_tested_here() -> None:
    assert {*ENDINGS, ".md", ".txt"} == set(READERS)  # documents have tests of their own


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return embedded(tmp_path_factory.mktemp("expected"), ".parquet")


def embedded(folder: Path, ending: str) -> list[dict[str, object]]:
    path = write_rows(folder / f"in/a{ending}", ROWS)
    more = ("--set", "run.chunk_tokens=100")
    assert main(["run", "--input", str(path), "--output", str(folder / "out"), *HASHING, *KEEP, *more]) == 0
    assert main(["verify", str(folder / "out"), "--input", str(path)]) == 0
    table = read_dataset(folder / "out")
    assert len(list((folder / "out/data").iterdir())) > 3
    rows = table.drop_columns(["source", "row"]).to_pylist()
    return [{**row, "id": row["id"].removeprefix(path.name)} for row in rows]


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending != ".parquet"])
def test_the_same_rows_are_the_same_vectors(tmp_path: Path, ending: str, expected: list[dict[str, object]]) -> None:
    assert embedded(tmp_path, ending) == expected


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("size", [1, 40, 100_000])
def test_spans_cover_every_row_once_and_go_on_anywhere(tmp_path: Path, ending: str, size: int) -> None:
    path = write_rows(tmp_path / f"a{ending}", ROWS)
    columns, density = (
        Columns(text=("text",), template=None, id="id"),
        Density(tokens_per_row=10, tokens_per_byte=0.2),
    )
    with contextlib.closing(reader_at(path, path.name)) as reader:
        start = Span(row_start=0, row_stop=0)
        spans = list(reader.cut(start, density, ChunkSize(tokens=size), is_open=True, limit=None, kinds={}))
        assert [last for _, last in spans] == [False] * (len(spans) - 1) + [True]
        for backwards in (1, -1):
            found = [reader.read(span, columns) for span, _ in spans[::backwards]][::backwards]
            rows = [row for each in found for row in sorted((*each.row, *(row for row, _, _ in each.rejects)))]
            assert rows == list(range(len(ROWS)))
        assert np.concatenate(list(reader.row_numbers())).tolist() == list(range(len(ROWS)))
        for span, last in spans:
            assert reader.ends_at(span) == last
            for row in range(span.row_start + 1, span.row_stop)[:3]:
                byte = reader.byte_of(span, row)
                stop = Span(row_start=row, row_stop=span.row_stop, byte_start=byte, byte_stop=span.byte_stop)
                first = Span(row_start=span.row_start, row_stop=row, byte_start=span.byte_start, byte_stop=byte)
                texts_of = [reader.read(each, columns).text for each in (first, stop, span)]
                assert texts_of[0] + texts_of[1] == texts_of[2]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_estimate_sees_every_row_once_where_it_looks_at_all(tmp_path: Path, ending: str) -> None:
    path = write_rows(tmp_path / f"a{ending}", ROWS)
    with contextlib.closing(reader_at(path, path.name)) as reader:
        blocks = list(reader.blocks(COLUMNS, None))
    found = [text for block in blocks for text in block.texts(range(len(block.sizes)))]
    assert sorted(filter(None, found)) == sorted(row["text"] for row in ROWS if row["text"].strip())
    assert len(found) == len(ROWS)
    assert sum(block.share for block in blocks) == pytest.approx(1, abs=0.05)
    assert all((block.sizes >= 0).all() for block in blocks)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".json", ".parquet", ".feather"])
def test_the_rows_of_a_place_are_whole_and_those_of_all_places_are_all(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("blocks", "textual.byte_reader"):
        monkeypatch.setattr(f"pipeline.corpus.{module}.PLACE_BYTES", 3000)
    rows = [
        {"id": str(at), "text": f'{at}: "a, b"\n[{{}}], {row["text"]}', "more": '"'}
        for at, row in enumerate(texts(400))
    ]
    path = write_rows(tmp_path / f"a{ending}", rows)
    with contextlib.closing(reader_at(path, path.name)) as reader:
        places = sorted({reader.place_at(at / 200) for at in range(200)})
        blocks = [block for place in places for block in reader.blocks(COLUMNS, place)]
    found = [text for block in blocks for text in block.texts(range(len(block.sizes)))]
    assert len(places) > 5
    assert sorted(filter(None, found)) == sorted(row["text"] for row in rows)
    assert len(found) == len(rows)


@pytest.mark.parametrize("ending", [".pq", ".feather", ".arrow", ".json", ".json.gz", ".csv", ".tsv.xz", ".jsonl.bz2"])
def test_a_run_goes_on_and_a_changed_row_costs_one_text(tmp_path: Path, ending: str) -> None:
    rows = texts(60)
    path = write_rows(tmp_path / f"in/a{ending}", rows)
    run = ["run", "--input", str(path), "--output", str(tmp_path / "out"), *HASHING, "--set", "run.chunk_tokens=200"]
    assert main([*run, "--limit", "25"]) == 0
    assert main(run) == 0
    found = status(tmp_path / "out")
    assert (found["embedded_now"], found["embedded_rows"]) == (35, 60)
    write_rows(path, [{**row, "text": "another, text"} if at == 30 else row for at, row in enumerate(rows)])
    assert main([*run, "--rehash"]) == 0
    found = status(tmp_path / "out")
    assert (found["embedded_now"], found["embedded_rows"]) == (1, 60)
    assert main(["verify", str(tmp_path / "out"), "--input", str(path)]) == 0
