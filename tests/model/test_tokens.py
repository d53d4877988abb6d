"""The tokenizer: windows of a limited number of tokens, in the characters of the text."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import EngineError, PipelineError
from pipeline.model.tokens import ModelTokenizer, Tokenizer, WordTokenizer, make_tokenizer
from tests.support import local_config

CONFIG = local_config()
CLS, SEP = 101, 102
SAMPLES = [
    "Hello world, this is a rather ordinary sentence about nothing.",
    "Naïve café — Ångström, e\u0301 and \u00e9, ﬁnal.",
    "日本語のテキストは文字ごとに分かれます。",
    "emoji \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 flags \U0001f1e9\U0001f1ea end",
    "  leading and trailing white space \t\n ",
    "العربية עברית हिन्दी ไทย",
    "control \x00\x01 and \u200b zero width \ufeff marks",
    "supercalifragilisticexpialidocious" * 4,
]
words = st.text(min_size=1, max_size=12).filter(str.strip) | st.sampled_from(SAMPLES)
texts = st.lists(words, min_size=1, max_size=12).map(" ".join)
limits = st.sampled_from([4, 5, 8, 24, 40])  # tokens


@functools.cache
def minilm(max_tokens: int) -> Tokenizer:
    return make_tokenizer(CONFIG, max_tokens=max_tokens)


UNLIMITED = minilm(1_000_000)


def kinds(max_tokens: int) -> list[Tokenizer]:
    return [minilm(max_tokens), WordTokenizer(max_tokens=max_tokens)]


def test_the_real_tokenizer_is_that_of_the_model() -> None:
    assert minilm(256).windows(["Hello world"]) == [[([CLS, 7592, 2088, SEP], 0, 11)]]


def test_texts_are_tokenised_apart_and_in_order() -> None:
    assert minilm(8).windows(SAMPLES) == [minilm(8).windows([text])[0] for text in SAMPLES]


@given(text=texts, limit=limits)
def test_windows_keep_the_limit_and_the_special_tokens(text: str, limit: int) -> None:
    windows = minilm(limit).windows([text])[0]
    assert all(len(ids) <= limit for ids, _, _ in windows)
    assert all((ids[0], ids[-1]) == (CLS, SEP) for ids, _, _ in windows)
    assert all(0 <= start <= stop <= len(text) for _, start, stop in windows)


@given(text=texts, limit=limits)
def test_windows_hold_every_token_once(text: str, limit: int) -> None:
    joined = [token for ids, _, _ in minilm(limit).windows([text])[0] for token in ids[1:-1]]
    assert joined == UNLIMITED.windows([text])[0][0].ids[1:-1]


@given(text=texts, limit=limits)
def test_tokens_are_counted_and_found_whatever_the_limit(text: str, limit: int) -> None:
    for tokenizer in kinds(limit):
        n_special = len(tokenizer.windows([""])[0][0].ids)
        n_tokens = sum(len(window.ids) - n_special for window in tokenizer.windows([text])[0])
        starts = tokenizer.starts(text)
        assert tokenizer.count([text, "", text]) == 2 * n_tokens == 2 * len(starts)
        assert sorted(starts) == starts.tolist()
        assert not n_tokens or 0 <= starts[0] <= starts[-1] < len(text)


@given(text=texts, max_tokens=st.sampled_from([4, 9, 20]))
def test_windows_leave_out_no_character_that_has_a_token(text: str, max_tokens: int) -> None:
    for tokenizer in kinds(max_tokens):
        windows = tokenizer.windows([text])[0]
        assert [start for _, start, _ in windows] == sorted(start for _, start, _ in windows)
        between = [text[: windows[0].start], text[windows[-1].stop :]]
        between += [text[a.stop : b.start] for a, b in itertools.pairwise(windows)]
        for left_out in between:
            assert len(UNLIMITED.windows([left_out])[0][0].ids) == 2


@given(text=texts)
def test_a_text_that_fits_is_one_window_of_all_its_characters(text: str) -> None:
    n_tokens = len(UNLIMITED.windows([text])[0][0].ids)
    windows = minilm(24).windows([text])[0]
    assert (len(windows) == 1) == (n_tokens <= 24)
    assert len(windows) > 1 or windows[0] == (UNLIMITED.windows([text])[0][0].ids, 0, len(text))


@pytest.mark.parametrize("kind", [0, 1], ids=["model", "words"])
@pytest.mark.parametrize("text", ["one two three four five six", "  one two three four five six"])
def test_the_first_window_starts_at_the_first_character(kind: int, text: str) -> None:
    windows = kinds(4)[kind].windows([text])[0]
    assert len(windows) > 1
    assert windows[0].start == 0


def test_offsets_are_characters_and_not_bytes() -> None:
    text = "é \U0001f600 ö " * 10
    assert [text[start:stop].split() for _, start, stop in minilm(5).windows([text])[0]] == [
        ["é", "\U0001f600", "ö"]
    ] * 10


def test_a_text_without_a_token_is_one_window() -> None:
    assert minilm(8).windows(["\x00", "\u200b"]) == [[([CLS, SEP], 0, 1)]] * 2


@given(text=texts, max_tokens=st.integers(1, 8))
def test_words_are_cut_and_none_is_lost(text: str, max_tokens: int) -> None:
    windows = WordTokenizer(max_tokens=max_tokens).windows([text])[0]
    pieces = [text[start:stop].split() for _, start, stop in windows]
    assert [word for piece in pieces for word in piece] == text.split()
    assert [len(piece) for piece in pieces] == [len(ids) for ids, _, _ in windows]
    assert max(map(len, pieces)) <= max_tokens


@pytest.mark.parametrize("max_tokens", [2, -5])
def test_a_limit_that_leaves_no_room_for_a_word_is_refused(max_tokens: int) -> None:
    with pytest.raises(PipelineError):
        minilm(max_tokens).windows(["one two three four five six seven eight nine ten"])


@pytest.mark.parametrize("data", [None, "", "{}"])
def test_a_model_without_a_tokenizer_is_named(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "tokenizer.json"
    if data is not None:
        path.write_text(data)
    with pytest.raises(EngineError, match=r"tokenizer\.json"):
        ModelTokenizer(path, max_tokens=8)


def test_a_model_that_is_not_there_is_named() -> None:
    config = local_config("model.location=package:no_such_package/model")
    with pytest.raises(EngineError, match="no_such_package"):
        make_tokenizer(config, max_tokens=8)
