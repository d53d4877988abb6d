"""The card: machines read its metadata, a run keeps its own part up to date, a person's words stay."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import datasets
import pytest
from huggingface_hub import metadata_load
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.console import in_one_line
from pipeline.dataset import Dataset
from pipeline.dataset.card import OURS, body_of, merged, metadata_of
from pipeline.recipe import recipe
from tests.support import local_config, texts, write_jsonl
from tests.support.crash import hashing_run

BEGINNING = """\
---
configs:
- config_name: default
  data_files: data/*.parquet
tags:
- embeddings
---
<!-- embed-corpus {digests}: a run writes what follows, down to the next such line -->
# Embeddings by the hashing engine, without a model
"""
DIGESTS = "[0-9a-f]{16} [0-9a-f]{16}"
METADATA, BODY = b"---\nlicense: x\n---\n", b"# Ours\n\n1 row\n"
words = st.binary(max_size=30).filter(lambda text: b"<!-- embed-corpus" not in text)


@pytest.mark.parametrize("licence", ["Custom: see x", "[MIT]", "yes", "1.0", "# none", "Größe {licence}"])
def test_a_card_holds_every_licence_as_it_is_called(tmp_path: Path, licence: str) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", texts(3))
    hashing_run(source, tmp_path / "out", corpus__licence=f'"{licence}"')
    assert metadata_load(tmp_path / "out/README.md") == {
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
        "license": "other",
        "license_name": licence,
        "tags": ["embeddings"],
    }
    table = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(table) == 3


ODD_TEXTS = [
    "{a} | {b}",
    "`{a}` and ``{b}``",
    "<!-- embed-corpus -->\n{a}",
    "{a}</code></td><script>alert(1)</script>",
    "a\nlicense: mit\n---\n# Mine",
    "*{a}* _b_ __c__ a_b [c](javascript:d) &amp; \\| ~~e~~",
    "\x1b]0;PWNED\x07{a}\u202e",
]


def dataset_of(**values: object) -> Dataset:
    """Return a dataset whose recipe and licence say odd things, as one that came from elsewhere may."""
    found = recipe(local_config()) | {key.replace("__", "."): value for key, value in values.items()}
    return Dataset(
        fingerprint="f" * 16,
        recipe=found,
        config={table: {"licence": values.get("model__name")} for table in ("model", "corpus")},
    )


def shown(html: str) -> list[str]:
    """Return what a browser shows of each cell of the tables of a page."""
    return [unescape(re.sub(r"</?code>", "", cell)) for cell in re.findall(r"<td>(.*?)</td>", html, re.DOTALL)]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_card_shows_what_a_recipe_says_as_it_is(text: str) -> None:
    dataset = dataset_of(corpus__text=text, model__name=text, **{text: text})
    body = body_of(dataset, dict.fromkeys(("passages", "embedded_rows", "rejected_rows", "stored_texts"), 1)).decode()
    html = MarkdownIt("commonmark").enable("table").render(body)
    pairs = shown(html)
    cells = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert len(cells) == len(dataset.recipe)
    for key, value in dataset.recipe.items():
        assert cells[in_one_line(key)] == in_one_line(repr(value))
    assert unescape(html[html.index("<h1>") + 4 : html.index("</h1>")]) == f"Embeddings by {in_one_line(text)}"
    assert not re.search(r"<(?!/?(h1|p|table|thead|tbody|tr|th|td|pre|code)\b)", html)
    assert all(line.isprintable() for line in body.split("\n"))
    assert merged(merged(None, b"---\n---\n", body.encode()), b"---\n---\n", b"new\n") is not None


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_a_licence_is_one_value_whatever_is_in_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_bytes(metadata_of(dataset_of(model__name=text)))
    found = metadata_load(tmp_path / "README.md")
    assert found is not None
    assert found.keys() == {"configs", "license", "license_name", "tags"}
    assert (found["license"], found["license_name"]) == ("other", in_one_line(text))


@pytest.mark.parametrize(("licence", "named"), [("CC-BY-4.0", "cc-by-4.0"), ("mit", "mit"), ("", None)])
def test_the_licence_is_that_of_the_texts_and_none_where_none_is_named(
    tmp_path: Path, licence: str, named: str | None
) -> None:
    hashing_run(write_jsonl(tmp_path / "in.jsonl", texts(3)), tmp_path / "out", corpus__licence=licence)
    found = metadata_load(tmp_path / "out/README.md") or {}
    assert found.get("license") == named
    assert "license_name" not in found


def test_the_licence_of_a_model_is_told_as_the_models_own() -> None:
    sums = dict.fromkeys(("passages", "embedded_rows", "rejected_rows", "stored_texts"), 1)
    dataset = Dataset(fingerprint="f" * 16, recipe=recipe(local_config()), config={"model": {"licence": "Gemma"}})
    words = body_of(dataset, sums).decode()
    assert "No licence of the texts was named. The licence of the model that made the vectors is Gemma." in words
    assert b"Gemma" not in metadata_of(dataset)


def test_a_card_begins_with_its_metadata_and_our_marker(tmp_path: Path) -> None:
    hashing_run(write_jsonl(tmp_path / "in.jsonl", texts(3)), tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    assert re.sub(DIGESTS, "{digests}", text, count=1).startswith(BEGINNING)


EDITS = {
    "words at the end": lambda text: text + "\n## Our notes\n",
    "words before our part": lambda text: text.replace("<!-- embed-corpus", "About this set.\n\n<!-- embed-corpus", 1),
    "metadata of its own": lambda text: text.replace("license: other", "license: mit", 1),
    "no metadata": lambda text: text[text.index("<!--") :],
    "no metadata, and words on both sides": lambda text: "# Mine\n" + text[text.index("<!--") :] + "More.\n",
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_person_wrote_around_our_part_stays_and_our_part_goes_on(tmp_path: Path, edit: str) -> None:
    source, card = tmp_path / "in.jsonl", tmp_path / "out/README.md"
    hashing_run(write_jsonl(source, texts(3)), tmp_path / "out")
    edited = EDITS[edit](card.read_text())
    card.write_text(edited)
    for n_rows in (5, 7):
        hashing_run(write_jsonl(source, texts(n_rows)), tmp_path / "out")
        counted = edited.replace("3 passages of 3", f"{n_rows} passages of {n_rows}")
        assert re.sub(DIGESTS, "", card.read_text()) == re.sub(DIGESTS, "", counted)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "# My notes\n",
        lambda text: text.replace("# Embeddings by", "# My embeddings by"),
        lambda text: text.replace("<!-- embed-corpus -->", ""),
        lambda text: re.sub("<!-- embed-corpus [0-9a-f].*\n", "", text),
    ],
    ids=["another text", "a word in our part", "no last marker", "no first marker"],
)
def test_a_card_that_a_person_wrote_or_changed_in_our_part_stays_and_that_is_said(
    tmp_path: Path, edit: object, capfd: pytest.CaptureFixture[str]
) -> None:
    source, card = tmp_path / "in.jsonl", tmp_path / "out/README.md"
    hashing_run(write_jsonl(source, texts(3)), tmp_path / "out")
    assert callable(edit)
    card.write_text(edit(card.read_text()))
    before = card.read_bytes()
    hashing_run(write_jsonl(source, texts(5)), tmp_path / "out")
    assert card.read_bytes() == before
    assert capfd.readouterr().err.count("README.md: left as it is") == 1


@given(words, words)
def test_any_bytes_around_our_part_stay(before: bytes, after: bytes) -> None:
    first = merged(None, METADATA, BODY)
    assert first is not None
    marked = first.removeprefix(METADATA)
    second = merged(before + marked + after, METADATA, BODY + b"new\n")
    assert second is not None
    ours = OURS.fullmatch(second)
    assert ours is not None
    assert (ours["before"], ours["body"], ours["after"]) == (before, BODY + b"new\n", after)
    assert merged(second, METADATA, BODY + b"new\n") == second


@given(st.binary(min_size=1))
def test_a_card_without_our_markers_is_never_ours_to_write(text: bytes) -> None:
    assert OURS.fullmatch(text) or merged(text, METADATA, BODY) is None
