"""A book that changes: the passages around the change are embedded again, all others are kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.support import read_dataset, status
from tests.support.crash import hashing_run
from tests.support.edits import Corpus

N_PAGES, SENTENCES, MOST = 300, 18, 5
NAMES = [f"name{i}" for i in range(2000)]


def pages(seed: int = 1) -> list[list[str]]:
    """Return the pages of a book as paragraphs, of about 250 words a page."""
    chance = random.Random(seed)
    sentences = [" ".join(["The", *chance.choices(NAMES, k=chance.randint(6, 20))]) for _ in range(N_PAGES * SENTENCES)]
    paragraphs = [". ".join(sentences[at : at + 6]) + "." for at in range(0, len(sentences), 6)]
    return [paragraphs[at : at + 3] for at in range(0, len(paragraphs), 3)]


def book(pages: list[list[str]]) -> dict[str, Any]:
    return {"id": "book", "text": "\n\n".join("\n\n".join(page) for page in pages)}


@pytest.mark.parametrize("overlap", [0, 20])
def test_an_edit_of_a_book_embeds_the_passages_around_it(tmp_path: Path, overlap: int) -> None:
    settings: dict[str, Any] = {"corpus__on_long": "split", "corpus__overlap": overlap}
    found = pages()
    corpus, output = Corpus(tmp_path / "in", {"a.jsonl": [book(found)]}), tmp_path / "out"
    hashing_run(corpus.root, output, **settings)
    assert len(read_dataset(output)) > 300
    middle = found[150]
    edits = {
        "a sentence": [
            middle[0],
            middle[1].replace(". The", ". And a new sentence says something else. The", 1),
            middle[2],
        ],
        "a word": [middle[0].replace("name", "game", 1), *middle[1:]],
        "a paragraph less": middle[1:],
        "a paragraph more": [*middle, " ".join(pages(seed=2)[0])],
    }
    for name, page in edits.items():
        corpus.write("a.jsonl", [book([*found[:150], page, *found[151:]])])
        told = hashing_run(corpus.root, output, **settings)
        assert 0 < told["embedded_now"] <= MOST, name
        found[150] = page
    hashing_run(corpus.root, tmp_path / "new", **settings)
    assert read_dataset(output).equals(read_dataset(tmp_path / "new"))


def test_a_book_that_only_loses_its_end_needs_no_engine(tmp_path: Path) -> None:
    found = pages()
    whole = book(found)["text"]
    corpus, output = Corpus(tmp_path / "in", {"a.jsonl": [book(found)]}), tmp_path / "out"
    hashing_run(corpus.root, output, corpus__on_long="split")
    end = max(stop for stop in read_dataset(output).column("char_end").to_pylist() if stop < len(whole) // 2)
    corpus.write("a.jsonl", [{"id": "book", "text": whole[:end]}, {"id": "page", "text": found[0][0]}])
    told = hashing_run(corpus.root, output, corpus__on_long="split")
    assert (told["embedded_now"], status(output)["engine_calls"]) == (1, 1)  # the page
    corpus.write("a.jsonl", [{"id": "book", "text": whole[:end]}])
    told = hashing_run(corpus.root, output, corpus__on_long="split")
    assert (told["embedded_now"], told["engine_calls"]) == (0, 0)


def test_passages_are_not_found_again_where_their_texts_are_not_stored(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"corpus__on_long": "split", "corpus__store_text": "false"}
    found = pages()
    corpus, output = Corpus(tmp_path / "in", {"a.jsonl": [book(found)]}), tmp_path / "out"
    hashing_run(corpus.root, output, **settings)
    corpus.write("a.jsonl", [book(found[1:])])
    told = hashing_run(corpus.root, output, **settings)
    assert told["embedded_now"] == len(read_dataset(output)) > 300
