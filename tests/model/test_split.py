"""Long texts in pieces: all of a text is in a piece, none is too long, and each is where it says."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

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
