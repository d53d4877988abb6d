"""Words on a key of a config begin with where its value comes from: the file, what named it, or a flag."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.arguments import parse, with_place
from tests.support import HASHING, REPOSITORY, embed_corpus, texts, write_jsonl

WORDS = "model.pooling is 'mean', the checkpoint says 'cls'"


@pytest.mark.parametrize(
    ("more", "variable", "begin"),
    [
        ([], "", "local: "),
        ([], "mine.toml", "mine.toml ($EMBED_CONFIG): "),
        (["--config", "other.toml"], "mine.toml", "other.toml: "),
        (["--set", "model.pooling=mean"], "", "--set "),
        (["--set", " model.pooling = mean"], "", "--set "),
        (["--set", "model.dtype=float32"], "", "local: "),
        (["--model", "a/b"], "mine.toml", "model a/b: "),
    ],
)
def test_the_place_is_the_file_or_the_flag(
    monkeypatch: pytest.MonkeyPatch, more: list[str], variable: str, begin: str
) -> None:
    monkeypatch.setenv("EMBED_CONFIG", variable)
    assert with_place(WORDS, parse(["plan", "--input", "a", *more])) == f"{begin}{WORDS}"


@pytest.mark.parametrize("text", ["", "a.toml: model.pooling", "model.none is 3", "mode.pooling", "out of memory"])
def test_other_words_stay(text: str) -> None:
    assert with_place(text, parse(["plan", "--input", "a"])) == text


def test_where_the_dataset_gives_the_config_no_file_is_blamed() -> None:
    assert with_place(WORDS, parse(["status", "d"])) == WORDS
    assert with_place(WORDS, parse(["search", "d", "q"])) == WORDS
    assert with_place(WORDS, parse(["search", "d", "q", "--config", "c"])) == f"c: {WORDS}"
    assert with_place(WORDS, parse(["search", "d", "q", "--set", "model.pooling=cls"])) == f"--set {WORDS}"


def test_what_only_a_run_finds_out_is_blamed_as_well(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", texts(3))
    plan = ("plan", "--input", source)
    said = embed_corpus(*plan, *HASHING, "--set", "corpus.text={text")
    assert said.returncode == 2
    assert said.stderr.startswith("embed-corpus: --set corpus.text '{text': ")
    path = tmp_path / "mine.toml"
    path.write_text((REPOSITORY / "configs/hashing.toml").read_text() + f"\n[corpus]\ntext = {json.dumps('{text')}\n")
    said = embed_corpus(*plan, env={"EMBED_CONFIG": str(path)})
    assert said.stderr.startswith(f"embed-corpus: {path} ($EMBED_CONFIG): corpus.text '{{text': ")
