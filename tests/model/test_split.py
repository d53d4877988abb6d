"""Long texts in pieces: all of a text is in a piece, none is too long, and each is where it says."""

from __future__ import annotations

import functools
import itertools
import random
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, processors

from pipeline.errors import ConfigError
from pipeline.model import cut as cutting
from pipeline.model.passages import Passages, make_passages
from pipeline.model.tokens import ModelTokenizer, Tokenizer, WordTokenizer
from tests.support.checkpoints import write_tokenizer

PROMPT = "the hat: "
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
SAMPLES = [
    *(
        "the",
        "hat",
        "i",
        "te",
        "heat.",
        "Tea!",
        "The.",
        '(the hat.")',
        "3.14",
        "e.g. the",
        "a\u0301\u0323\u0316",
        "\x00",
        "\x00\x00the",
    ),
    *(
        FAMILY,
        "\U0001f44d\U0001f3fd",
        "\U0001f1e9\U0001f1ea",
        "日本語。東京、大阪。",
        "العربية؟",
        "עברית.",
        "हिन्दी।",
        "ไทยไทย",
    ),
    *(
        "\r\n",
        "\n\n",
        "\n",
        "\r\n\r\n",
        "\t",
        "\u2029",
        "\u200b",
        "the" * 30,
        "日本" * 40,
        "e\u0301" * 30,
        "[CLS]",
        "<unk>",
    ),
]
any_text = st.lists(
    st.tuples(st.sampled_from(SAMPLES) | st.text(max_size=8), st.sampled_from(["", " ", " ", "\n", "\n\n"])),
    max_size=90,
).map(lambda pairs: "".join(itertools.chain.from_iterable(pairs)))


def template(head: str, tail: str) -> processors.PostProcessor:
    return processors.TemplateProcessing(single=[head, "$A", tail], special_tokens=[(head, 0), (tail, 1)])


def word_piece() -> tokenizers.Tokenizer:
    pieces = [
        "[CLS]",
        "[SEP]",
        "[UNK]",
        "the",
        "hat",
        *LETTERS,
        *(f"##{letter}" for letter in LETTERS),
        *".,!?():日本東京。",
    ]
    built = tokenizers.Tokenizer(models.WordPiece({piece: at for at, piece in enumerate(pieces)}, unk_token="[UNK]"))
    built.normalizer, built.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    built.add_special_tokens(["[CLS]", "[SEP]", "[UNK]"])
    built.post_processor = template("[CLS]", "[SEP]")
    return built


def unigram() -> tokenizers.Tokenizer:
    pieces = ["<s>", "</s>", "<unk>", "▁", "▁the", "▁hat", "the", "ea", *LETTERS, *".!?日本。"]
    built = tokenizers.Tokenizer(models.Unigram([(piece, -1.0 - at % 7) for at, piece in enumerate(pieces)], unk_id=2))
    built.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.add_special_tokens(["<s>", "</s>", "<unk>"])
    built.post_processor = template("<s>", "</s>")
    return built


@functools.cache
def tokenizer(kind: str, max_tokens: int) -> Tokenizer:
    """Return a tokenizer of a kind; "bpe" has a token for every byte of what is not in its vocabulary."""
    if kind == "words":
        return WordTokenizer(max_tokens=max_tokens)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        if kind == "bpe":
            write_tokenizer(path.parent)
        else:
            {"word piece": word_piece, "unigram": unigram}[kind]().save(str(path))
        return ModelTokenizer(path, max_tokens=max_tokens)


class Limit(NamedTuple):
    """Limits of passages, in tokens."""

    max_tokens: int
    overlap: int = 0


KINDS = pytest.mark.parametrize("kind", ["word piece", "bpe", "unigram", "words"])
limits = st.sampled_from([Limit(16), Limit(24, 1), Limit(24, 3), Limit(60, 10), Limit(61, 25)])


def split(text: str, kind: str, limit: Limit, *, prompt: str = "") -> Passages:
    made = tokenizer(kind, limit.max_tokens)
    return make_passages([text], made, prompt=prompt, on_long="split", overlap=limit.overlap)


def spans(passages: Passages) -> list[tuple[int, int]]:
    return list(zip(passages.start, passages.stop, strict=True))


def says_nothing(text: str, kind: str) -> bool:
    made = tokenizer(kind, 1 << 20)
    return made.blank.issuperset(made.windows([text])[0][0].ids)


def check(text: str, kind: str, limit: Limit, prompt: str) -> Passages:
    """Check what holds for the passages of every text that is split."""
    passages = split(text, kind, limit, prompt=prompt)
    assert passages == split(text, kind, limit, prompt=prompt)
    if passages.empty:
        assert says_nothing(text, kind)
        return passages
    found = spans(passages)
    alone = tokenizer(kind, limit.max_tokens).windows([prompt + text[start:stop] for start, stop in found])
    assert [*map(list, passages.ids)] == [windows[0].ids for windows in alone]
    assert passages.truncated == [len(windows) > 1 for windows in alone]
    assert max(map(len, passages.ids)) <= limit.max_tokens
    if len(found) == 1 and found[0] == (0, len(text)):
        return passages
    for (start, stop), (again, end) in itertools.pairwise(found):
        assert start < again
        assert stop < end
        assert limit.overlap or stop <= again
    ends = [0, *itertools.accumulate((stop for _, stop in found), max)]
    left_out = [text[end:start] for end, (start, _) in zip(ends, [*found, (len(text), 0)], strict=True)]
    assert all(says_nothing(piece.strip(), kind) for piece in left_out)
    assert [text[start:stop].strip() for start, stop in found] == [text[start:stop] for start, stop in found]
    return passages


@KINDS
@given(text=any_text, limit=limits, prompt=st.sampled_from(["", PROMPT]))
def test_pieces_have_all_of_a_text_and_keep_the_limit(kind: str, text: str, limit: Limit, prompt: str) -> None:
    if limit.max_tokens - 4 * len(PROMPT) > limit.overlap or not prompt:
        check(text, kind, limit, prompt)


@pytest.mark.parametrize("kind", ["word piece", "words"])
@given(
    text=st.lists(st.sampled_from(["the", "hat", "the.", "hat\n", "the\n\n"]), min_size=90, max_size=200).map(" ".join),
    limit=limits,
)
@example(text="the " * 60 + "the. hat the the the the", limit=Limit(24, 1))
def test_pieces_share_as_many_tokens_as_asked(kind: str, text: str, limit: Limit) -> None:
    """And of what is before them no more than the rest of a word."""
    made = tokenizer(kind, limit.max_tokens)
    found = spans(check(text, kind, limit, ""))
    for (_, stop), (again, _) in itertools.pairwise(found):
        assert made.count([text[again:stop]]) - limit.overlap in range(3 if limit.overlap else 1)
        assert text[again - 1].isspace()


def test_a_piece_ends_with_a_paragraph_else_a_sentence_else_a_line() -> None:
    kind, chance = "words", random.Random(3)
    sentences = [
        " ".join(["The", *chance.choices(["the", "hat", "e.g. a"], k=chance.randint(2, 4))]) for _ in range(400)
    ]
    limit = Limit(61)
    for joint in (". ", "!\r\n", '?" '):
        text = joint.join(sentences)
        stops = spans(check(text, kind, limit, ""))[:-1]
        assert all(text[stop - 1] in '.!?"' for _, stop in stops)
    text = "".join(f"{sentence}{chance.choice(['. ', '. ', chr(10) * 2])}" for sentence in sentences)
    at_ends = [text[stop : stop + 2] == "\n\n" for _, stop in spans(check(text, kind, limit, ""))[:-1]]
    assert sum(at_ends) > 0.8 * len(at_ends)
    text = "\n".join(sentences)
    assert all(text[stop] == "\n" for _, stop in spans(check(text, kind, limit, ""))[:-1])


@KINDS
@pytest.mark.parametrize("word", ["x" * 100_000, "日" * 20_000, "e\u0301\u0323" * 20_000, "\x00" * 100_000 + "the"])
def test_one_word_of_100_000_characters_is_cut_between_its_letters(kind: str, word: str) -> None:
    text = f"the hat. {word} the hat."
    passages = check(text, kind, Limit(128), "")
    assert not any(passages.truncated)
    assert not any(text[start] in "\u0301\u0323" for start in passages.start)


@KINDS
@given(text=any_text.filter(str.strip), overlap=st.sampled_from([0, 1, 5, 11]))
def test_where_blocks_meet_nothing_is_left_out(kind: str, text: str, overlap: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "LEAST_CHARS", 64)
        patch.setattr(cutting, "CHARS_PER_TOKEN", 1)
        check(text * 4, kind, Limit(24, overlap), "")


def test_a_text_is_tokenised_in_blocks_and_each_only_once_or_nearly() -> None:
    sizes: list[int] = []
    made = tokenizer("words", 256)

    def starts(text: str) -> NDArray[np.int64]:
        sizes.append(len(text))
        return made.starts(text)

    text = "the hat. " * 100_000
    assert len([*cutting.cut(text, starts, room=250, overlap=0)]) > 800
    assert max(sizes) <= cutting.LEAST_CHARS
    assert sum(sizes) < 1.1 * len(text)


@pytest.mark.parametrize(("overlap", "prompt"), [(14, ""), (0, "the " * 20), (100, "")])
def test_a_limit_without_room_for_a_new_token_is_refused(overlap: int, prompt: str) -> None:
    with pytest.raises(ConfigError, match="room for a token"):
        split("the", "word piece", Limit(16, overlap), prompt=prompt)
