"""docs/formats.md and the README say what is so: their tables have every ending that is read, and a command runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipeline.chunk import MAX_LINE_BYTES
from pipeline.corpus.reader import READERS
from pipeline.corpus.stream import COMPRESSION
from pipeline.corpus.textual.lines import HEAD_BYTES
from tests.support import HASHING, REPOSITORY, embed_corpus, read_dataset

DOCUMENT = (REPOSITORY / "docs/formats.md").read_text()


def test_every_ending_is_in_the_table() -> None:
    first = re.findall(r"^\| ((?:`\.\w+` ?)+) \|", DOCUMENT, re.MULTILINE)
    plain = {ending for cell in first for ending in re.findall(r"`(\.\w+)`", cell)}
    [texts, packings] = re.findall(r"^(`\.jsonl`.*) may be packed: (.*)\. A packed", DOCUMENT, re.MULTILINE)[0]
    assert re.findall(r"`(\.\w+)`", packings) == list(COMPRESSION)
    packed = {text + packing for text in re.findall(r"`(\.\w+)`", texts) for packing in COMPRESSION}
    assert plain | packed == set(READERS)


def test_the_readme_has_every_ending_and_the_limits_of_the_code() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    table = re.findall(r"^\| what is read \|.*\n\|.*\n((?:\|.*\n)+)", readme, re.MULTILINE)[0]
    arrow, lines, delimited, documents = [row.strip("| ").split(" | ") for row in table.splitlines()]
    plain, packings = lines[1].split(", also ")
    texts = re.findall(r"`(\.\w+)`", plain + delimited[1].removesuffix(", packed likewise"))
    assert delimited[1].endswith(", packed likewise")
    assert re.findall(r"`(\.\w+)`", packings) == list(COMPRESSION)
    found = [*re.findall(r"`(\.\w+)`", arrow[1] + documents[1]), *texts]
    assert {*found, *(text + packing for text in texts for packing in COMPRESSION)} == set(READERS)
    limit = f"{MAX_LINE_BYTES >> 20} MiB a"
    assert [row[2].partition(limit)[1:] for row in (lines, delimited, documents)] == [
        (limit, " row"),
        (limit, f" row, {HEAD_BYTES >> 10} KiB the header"),
        (limit, " file"),
    ]


def test_the_command_for_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    Path("notes/a.md").write_text("# A heading\n\nwords\n")
    [command] = re.findall(r"```sh\nembed-corpus (.*)\n```", DOCUMENT)
    done = embed_corpus(*shlex.split(command), *HASHING)
    assert done.returncode == 0, done.stderr
    assert read_dataset(Path("out")).select(["id", "title"]).to_pylist() == [{"id": "a.md", "title": "A heading"}]
