"""docs/formats.md says what is so: its table has every ending that is read, and its command runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipeline.corpus.reader import READERS
from pipeline.corpus.stream import COMPRESSION
from tests.support import HASHING, REPOSITORY, embed_corpus, read_dataset

DOCUMENT = (REPOSITORY / "docs/formats.md").read_text()


def test_every_ending_is_in_the_table() -> None:
    first = re.findall(r"^\| ((?:`\.\w+` ?)+) \|", DOCUMENT, re.MULTILINE)
    plain = {ending for cell in first for ending in re.findall(r"`(\.\w+)`", cell)}
    [texts, packings] = re.findall(r"^(`\.jsonl`.*) may be packed: (.*)\. A packed", DOCUMENT, re.MULTILINE)[0]
    assert re.findall(r"`(\.\w+)`", packings) == list(COMPRESSION)
    packed = {text + packing for text in re.findall(r"`(\.\w+)`", texts) for packing in COMPRESSION}
    assert plain | packed == set(READERS)


def test_the_command_for_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    Path("notes/a.md").write_text("# A heading\n\nwords\n")
    [command] = re.findall(r"```sh\nembed-corpus (.*)\n```", DOCUMENT)
    done = embed_corpus(*shlex.split(command), *HASHING)
    assert done.returncode == 0, done.stderr
    assert read_dataset(Path("out")).select(["id", "title"]).to_pylist() == [{"id": "a.md", "title": "A heading"}]
