"""Passages: one for each row, and what becomes of a text that is too long."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from pipeline.model.passages import Passages, make_passages
from pipeline.model.tokens import ModelTokenizer, Tokenizer, WordTokenizer, make_tokenizer
from tests.support import local_config

CONFIG = local_config()
MAX_TOKENS = 24
CLS, SEP = 101, 102
PROMPT = "passage: "
LONG = " ".join(f"word{i}" for i in range(60))
words = st.text(min_size=1, max_size=12).filter(str.strip) | st.sampled_from(
    ["naïve", "\U0001f600", "日本語", "e\u0301", "antidisestablishmentarianism", "\x00", "...", "\n\n"]
)
any_texts = st.lists(words, min_size=1, max_size=60).map(" ".join)


@functools.cache
def tokenizer(max_tokens: int = MAX_TOKENS) -> Tokenizer:
    return make_tokenizer(CONFIG, max_tokens=max_tokens)


UNLIMITED = tokenizer(1_000_000)


def n_tokens(text: str) -> int:
    """Number of tokens, the two special ones left out."""
    return len(UNLIMITED.windows([text])[0][0].ids) - 2


texts = any_texts.filter(n_tokens)
SILENT = [
    "\u200b",
    "\x00",
    "\ufeff\xad",
    "\u2060 \u200d\n\x08",
    "\u0301",
    "\ufffd",
    "[SEP]",
    "[PAD] [MASK]",
    "[CLS]\u200b[SEP]" * 30,
]
SAYING = [
    "a",
    "\U0001f600",
    "\u200bx",
    "passage",
    "passage: ",
    ":",
    "[unk]",
    "[UNK]",
    "\u3164",
    "\x00.",
    "[PAD]" * 40 + "x",
]


def make(
    texts: list[str], on_long: Literal["truncate", "split", "reject"], *, prompt: str = "", overlap: int = 0
) -> Passages:
    return make_passages(texts, tokenizer(), prompt=prompt, on_long=on_long, overlap=overlap)


def check_columns(passages: Passages, texts: list[str]) -> None:
    """Check what holds for passages of any policy."""
    n = len(passages.text)
    columns = (passages.passage, passages.start, passages.stop, passages.truncated, passages.lost, passages.ids)
    assert [len(column) for column in columns] == [n] * 6
    assert sorted({*passages.text, *passages.too_long, *passages.empty}) == list(range(len(texts)))
    assert passages.text == sorted(passages.text)
    assert not set(passages.text) & {*passages.too_long, *passages.empty}
    assert all(len(ids) <= MAX_TOKENS and (ids[0], ids[-1]) == (CLS, SEP) for ids in passages.ids)
    for at, text in enumerate(passages.text):
        assert 0 <= passages.start[at] <= passages.stop[at] <= len(texts[text])
        assert passages.passage[at] == (at and passages.text[at - 1] == text and passages.passage[at - 1] + 1)


@given(found=st.lists(any_texts, min_size=1, max_size=4), prompt=st.sampled_from(["", PROMPT]))
@pytest.mark.parametrize("on_long", ["truncate", "reject", "split"])
def test_every_text_becomes_passages_or_is_told_apart(
    found: list[str], prompt: str, on_long: Literal["truncate", "split", "reject"]
) -> None:
    passages = make(found, on_long, prompt=prompt)
    check_columns(passages, found)
    for index, text in enumerate(found):
        own = [at for at, of in enumerate(passages.text) if of == index]
        if not n_tokens(text):
            assert index in passages.empty
        elif n_tokens(prompt + text) + 2 <= MAX_TOKENS:
            assert [(passages.start[at], passages.stop[at], passages.truncated[at]) for at in own] == [
                (0, len(text), False)
            ]
            assert list(passages.ids[own[0]]) == UNLIMITED.windows([prompt + text])[0][0].ids
        elif on_long == "truncate":
            assert [passages.truncated[at] for at in own] == [True]
        elif on_long == "reject":
            assert index in passages.too_long
        else:
            assert len(own) > 1


def test_ordinary_text_behind_a_prompt_is_split_without_truncation() -> None:
    passages = make([LONG], "split", prompt=PROMPT)
    assert not any(passages.truncated)
    pieces = [LONG[start:stop] for start, stop in zip(passages.start, passages.stop, strict=True)]
    assert "".join(pieces).replace(" ", "") == LONG.replace(" ", "")


@pytest.mark.parametrize("prompt", ["", PROMPT])
@pytest.mark.parametrize("lead", ["", "  "])
def test_a_truncated_passage_holds_the_beginning_of_the_text(prompt: str, lead: str) -> None:
    text = lead + LONG
    passages = make([text], "truncate", prompt=prompt)
    assert passages.start == [0]
    assert n_tokens(prompt + text[: passages.stop[0]]) + 2 == MAX_TOKENS == len(passages.ids[0])
    assert list(passages.ids[0][1:-1]) == UNLIMITED.windows([prompt + text])[0][0].ids[1 : MAX_TOKENS - 1]


def test_offsets_leave_the_prompt_out() -> None:
    passages = make(["short"], "truncate", prompt=PROMPT)
    assert (passages.start, passages.stop) == ([0], [5])
    assert [*map(list, passages.ids)] == [UNLIMITED.windows([PROMPT + "short"])[0][0].ids]


@pytest.mark.parametrize("prompt", ["", PROMPT, "\u200b", "[SEP] "])
@pytest.mark.parametrize("on_long", ["truncate", "reject", "split"])
def test_a_text_of_which_no_token_is_left_has_no_passage(
    prompt: str, on_long: Literal["truncate", "split", "reject"]
) -> None:
    found = [*SAYING, *SILENT, *SAYING]
    passages = make(found, on_long, prompt=prompt)
    assert [found[at] for at in passages.empty] == SILENT
    assert {found[at] for at in (*passages.text, *passages.too_long)} == {*SAYING}


def test_such_a_text_has_the_passage_of_its_special_tokens_where_that_is_asked_for() -> None:
    found = ["\u200b", "one"]
    kept = make_passages(found, tokenizer(), prompt=PROMPT, on_long="truncate", keep_empty=True)
    assert (kept.text, kept.empty) == ([0, 1], [])
    assert list(kept.ids[0]) == UNLIMITED.windows([PROMPT])[0][0].ids


@pytest.mark.parametrize("prompt", ["", PROMPT, "\x01 "])
def test_words_that_are_not_printed_say_nothing_without_a_model(prompt: str) -> None:
    words = WordTokenizer(max_tokens=5)
    found = ["\u200b", "\x00 \ufeff", "\xad \x1b\n" * 9, "\u200b a", "a", "\u200ba \x00"]
    passages = make_passages(found, words, prompt=prompt, on_long="truncate")
    assert (passages.empty, passages.text) == ([0, 1, 2], [3, 4, 5])


def sentence_pieces(folder: Path, normalizer: normalizers.Normalizer) -> Tokenizer:
    """Return a tokenizer as multilingual encoders have: pieces with a mark for the space, and a bare mark."""
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁a", -1.0), ("a", -2.0), (":", -2.0)]
    built = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2))
    built.normalizer = normalizer
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.add_special_tokens(["<s>", "</s>", "<unk>"])
    built.post_processor = processors.TemplateProcessing(
        single=["<s>", "$A", "</s>"], special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    built.save(str(folder / "tokenizer.json"))
    return ModelTokenizer(folder / "tokenizer.json", max_tokens=16)


@pytest.mark.parametrize("becomes", ["", " "], ids=["dropped", "made a space"])
@pytest.mark.parametrize("prompt", ["", "a: "])
def test_a_tokenizer_that_leaves_a_bare_space_leaves_nothing(tmp_path: Path, prompt: str, becomes: str) -> None:
    found = ["\u200b", "\u200b\u200b", "</s>", "<s> </s>", "a", "\u200ba", "\U0001f600", "a: "]
    pieces = sentence_pieces(tmp_path, normalizers.Replace("\u200b", becomes))
    passages = make_passages(found, pieces, prompt=prompt, on_long="truncate")
    assert (passages.empty, passages.text) == ([0, 1, 2, 3], [4, 5, 6, 7])


@given(text=texts)
def test_truncating_counts_the_tokens_that_are_lost(text: str) -> None:
    passages = make([text], "truncate")
    assert sum(len(ids) - 2 for ids in passages.ids) + sum(passages.lost) == n_tokens(text)


def test_of_a_book_that_is_truncated_the_rest_is_counted_and_no_more_of_it_looked_at() -> None:
    text = " ".join(f"word{i}" for i in range(30_000))
    passages = make([text, LONG], "truncate", prompt=PROMPT)
    [whole] = tokenizer(10**6).windows([PROMPT + text])[0]
    assert list(passages.ids[0][:-1]) == whole.ids[: MAX_TOKENS - 1]
    assert abs(passages.lost[0] - (len(whole.ids) - MAX_TOKENS)) <= 3  # a word may be counted as two where blocks meet
    assert passages.lost[1] == n_tokens(PROMPT + LONG) + 2 - MAX_TOKENS


@pytest.mark.parametrize("on_long", ["truncate", "split", "reject"])
def test_a_text_of_many_characters_and_few_tokens_fits(on_long: Literal["truncate", "split", "reject"]) -> None:
    text = "one" + " " * 200_000 + "two"
    passages = make([text], on_long)
    assert (passages.start, passages.stop, passages.truncated) == ([0], [len(text)], [False])


def test_no_texts_make_no_passages() -> None:
    assert make([], "split", prompt=PROMPT) == Passages()
