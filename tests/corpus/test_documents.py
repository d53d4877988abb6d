"""Documents: a row for each file, titled by its first heading; thousands are a few parts and cost what changes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pipeline.chunk import ChunkSize, Density, Span
from pipeline.cli import main
from pipeline.config import CorpusConfig
from pipeline.corpus import documents
from pipeline.corpus.documents import DocumentReader
from pipeline.corpus.rows import Columns, Rows
from pipeline.corpus.shards import find_files, find_shards, open_corpus
from pipeline.errors import CorpusError
from tests.support import HASHING, read_dataset, status, texts, write_jsonl

COLUMNS = Columns(text=("title", "text"), template="{title}\n{text}", id="id", keep=("title", "name", "path", "lang"))
WHOLE = Span(row_start=0, row_stop=1)

TITLES = {
    "an ATX heading": ("# A title #\n\ntext", "A title"),
    "a deep heading": ("text\n\n###   Deep ", "Deep"),
    "a setext heading": ("A title\n=======\ntext", "A title"),
    "an empty heading first": ("#\n## Second", "Second"),
    "code that looks like one": ("```sh\n# no title\n~~~\n```\n# Title", "Title"),
    "front matter": ("---\nkey: x\n# no title\n---\n\nTitle\n---\n", "Title"),
    "seven marks": ("####### no title", "a"),
    "no space": ("#no title", "a"),
    "no heading": ("text\n\n---\ntext", "a"),
    "nothing": ("\n", "a"),
}


def read(folder: Path, name: str, data: bytes, columns: Columns = COLUMNS) -> Rows:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return DocumentReader(path, name).read(WHOLE, columns)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", TITLES)
def test_the_title_of_markdown_is_its_first_heading_or_its_name(tmp_path: Path, name: str, end: str) -> None:
    text, title = TITLES[name]
    text = text.replace("\n", end)
    rows = read(tmp_path, "lang=en/a.md", text.encode())
    assert (rows.id, rows.text) == (["lang=en/a.md"], [f"{title}\n{text}"])
    assert rows.kept.to_pylist() == [{"title": title, "name": "a", "path": "lang=en/a.md", "lang": "en"}]


def test_a_plain_text_is_titled_by_its_name(tmp_path: Path) -> None:
    rows = read(tmp_path, "b/My notes.TXT", b"\xef\xbb\xbf# a\r\n")
    assert rows.text == ["My notes\n# a\r\n"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty_text"), (b" \n", "empty_text"), (b"\xff", "invalid_utf8"), (b"a" * 101, "too_long")],
)
def test_a_bad_document_is_a_reject(tmp_path: Path, data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_LINE_BYTES", 100)
    rows = read(tmp_path, "a.txt", data, Columns(text=("text",), template=None, id="id"))
    assert [(row, row_id, why.reason) for row, row_id, why in rows.rejects] == [(0, "a.txt", reason)]


def test_a_document_is_one_span(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"text")
    reader = DocumentReader(tmp_path / "a.md", "a.md")
    density, size = Density(tokens_per_row=1, tokens_per_byte=1), ChunkSize(tokens=1)
    [(span, last)] = reader.cut(Span(row_start=0, row_stop=0), density, size, is_open=True, limit=None, kinds={})
    assert (span, last) == (Span(row_start=0, row_stop=1, byte_stop=4), True)
    assert list(reader.cut(Span(row_start=1, row_stop=1), density, size, is_open=True, limit=None, kinds={})) == []
    assert reader.ends_at(span)


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"%PDF-1.7", "PDF"), (b"version https://git-lfs.github.com/spec/v1\noid x", "a pointer of Git LFS")],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, data: bytes, found: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(CorpusError, match=rf"a\.txt: expected a text, found {found}"):
        open_corpus(*find_shards(str(tmp_path)), CorpusConfig())


def test_a_column_that_no_document_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"text")
    with pytest.raises(CorpusError, match="expected column 'titel', found id, text, title, name, path"):
        open_corpus(*find_shards(str(tmp_path)), CorpusConfig(text="{titel}\n{text}"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_document_in_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.md").write_bytes("# A title".encode(encoding))
    with pytest.raises(CorpusError, match=r"found UTF-16(BE)?; convert it, as by `iconv -f UTF-16(BE)? .*a.new.md`"):
        open_corpus(*find_shards(str(tmp_path)), CorpusConfig())


def test_a_packed_document_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(gzip.compress(b"text"))
    with pytest.raises(CorpusError, match=r"found gzip; unpack it: `gzip -dc < a\.md > a\.new\.md`"):
        open_corpus(*find_shards(str(tmp_path)), CorpusConfig())


def test_documents_beside_rows_are_left_out_and_said(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", texts(1))
    for name in ("README.md", "licence.txt", "dataset_infos.json"):
        (tmp_path / name).write_text("x")
    found = find_files(str(tmp_path))
    assert [shard.source for shard in found.shards] == ["a.jsonl"]
    assert found.left_out == (
        "1 file of another kind: 1 .json; 2 documents (.md, .txt), as other files here have rows; to embed documents "
        "too, name them as an input of their own, as by --input FOLDER 'FOLDER/**/*.md'"
    )
    assert [shard.source for shard in find_files(f"{tmp_path}/*.md").shards] == ["README.md"]
    assert [shard.source for shard in find_files(str(tmp_path / "README.md")).shards] == ["README.md"]


def test_thousands_of_documents_are_a_few_parts_and_one_that_is_edited_costs_itself(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for at, row in enumerate(texts(5000)):
        path = folder / f"{at % 50:02}/{row['id']}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Title {at}\n\n{row['text']}\n")
    run = ["run", "--input", str(folder), "--output", str(out), *HASHING, "--set", 'corpus.text="{title}: {text}"']
    assert main(run) == 0
    assert status(out)["embedded_now"] == 5000
    assert len(list((out / "data").iterdir())) <= 20
    (folder / "07/doc-57.md").write_text("# Another\n\nwords\n")
    assert main(run) == 0
    found = status(out)
    assert (found["embedded_now"], found["embedded_rows"]) == (1, 5000)
    assert main(["verify", str(out), "--input", str(folder)]) == 0
    assert sorted(read_dataset(out).column("id").to_pylist())[:2] == ["00/doc-0.md", "00/doc-100.md"]
