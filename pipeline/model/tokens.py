"""Text to token ids, with the model's own tokenizer and without its engine."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import tokenizers
from numpy.typing import NDArray

from pipeline.config import ENGINES, Config
from pipeline.errors import ConfigError, EngineError
from pipeline.model.files import locate

Tokens = NDArray[np.int64]  # of each token of a text the character at which it begins, in rising order
UNPRINTED = -1  # the id of a word that says nothing; that of no other word
WORD = re.compile(r"\S+")
SPACES = ("\u2581", "\u0120")  # pieces that write a space: of SentencePiece, and of a BPE over bytes


class Window(NamedTuple):
    """Token ids, special tokens included, of the characters [start, stop) of a text."""

    ids: list[int]
    start: int
    stop: int


class Tokenizer(Protocol):
    """Cuts texts into windows of at most `max_tokens` tokens; a text that fits is one window."""

    @property
    def max_tokens(self) -> int:
        """The most tokens of a window, special ones included."""
        ...

    @property
    def blank(self) -> frozenset[int]:
        """The ids that say nothing of a text: special tokens and a space."""
        ...

    def windows(self, texts: Sequence[str]) -> list[list[Window]]:
        """Return the windows of each text, in order; the first always starts at character 0."""
        ...

    def starts(self, text: str) -> Tokens:
        """Return where each token of a text begins, without special ones, shape (n_tokens,)."""
        ...

    def count(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have in all, without special ones."""
        ...


def make_tokenizer(config: Config, *, max_tokens: int) -> Tokenizer:
    """Return the tokenizer of the configured model, which loads no engine.

    Raises EngineError when the model has no tokenizer.json, and ConfigError for limits that leave no room for a text.
    """
    if not ENGINES[config.engine.kind].needs_weights:
        return WordTokenizer(max_tokens=max_tokens)
    folder = locate(config.model, settings_only=True)
    return ModelTokenizer(folder / "tokenizer.json", max_tokens=max_tokens)


class ModelTokenizer:
    """The tokenizer a model was trained with; cutting keeps its final special token."""

    def __init__(self, path: Path, *, max_tokens: int) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            raise EngineError(f"{path}: expected a tokenizer.json, found: {error}") from error
        _check_room(max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False))
        self.max_tokens = max_tokens
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._blank = _blank(self._tokenizer)

    @property
    def blank(self) -> frozenset[int]:
        """The ids of the tokens that this model knows as special, and of a space."""
        return self._blank

    def windows(self, texts: Sequence[str]) -> list[list[Window]]:
        """Return the windows of each text."""
        return [
            [Window(encoding.ids, 0, len(text))]
            if not encoding.overflowing
            else _from_start([_window(part) for part in (encoding, *encoding.overflowing)])
            for text, encoding in zip(texts, self._tokenizer.encode_batch(texts), strict=True)
        ]

    def starts(self, text: str) -> Tokens:
        """Return where each token of a text begins."""
        [encoding] = self._tokenizer.encode_batch([text], add_special_tokens=False)  # which lets other threads work
        begins = [start for part in (encoding, *encoding.overflowing) for start, _ in part.offsets]
        return np.maximum.accumulate(np.array(begins, np.int64))

    def count(self, texts: Sequence[str]) -> int:
        """Return how many tokens texts have in all."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return sum(len(part) for encoding in encodings for part in (encoding, *encoding.overflowing))


def _blank(tokenizer: tokenizers.Tokenizer) -> frozenset[int]:
    """Return the ids that say nothing of a text; the unknown token is none, for it takes the place of a word."""
    added = tokenizer.get_added_tokens_decoder().items()
    special = {number for number, token in added if token.special and "unk" not in token.content.lower()}
    spaces = {tokenizer.token_to_id(piece) for piece in SPACES}
    return frozenset(special | {number for number in spaces if number is not None})


def _check_room(max_tokens: int) -> None:
    if max_tokens < 1:
        raise ConfigError(f"model.max_tokens: expected room for a token beside the special ones, found {max_tokens}")


def _from_start(windows: list[Window]) -> list[Window]:
    return [windows[0]._replace(start=0), *windows[1:]]


def _window(encoding: tokenizers.Encoding) -> Window:
    spans = [span for span, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special]
    return Window(encoding.ids, min(s for s, _ in spans), max(e for _, e in spans))


class WordTokenizer:
    """One token a word, for an engine without weights: no vocabulary, the same everywhere.

    A word without a printable character, which a model's tokenizer drops, says nothing.
    """

    blank = frozenset({UNPRINTED})

    def __init__(self, *, max_tokens: int) -> None:
        _check_room(max_tokens)
        self.max_tokens = max_tokens

    def windows(self, texts: Sequence[str]) -> list[list[Window]]:
        """Return the windows of each text."""
        return [
            [Window(ids, 0, len(text))] if len(ids) <= self.max_tokens else self._cut(text, ids)
            for text, ids in zip(texts, map(_ids_of_words, texts), strict=True)
        ]

    def starts(self, text: str) -> Tokens:
        """Return where each word begins."""
        return np.array([match.start() for match in WORD.finditer(text)], np.int64)

    def count(self, texts: Sequence[str]) -> int:
        """Return how many words texts have in all."""
        return sum(len(text.split()) for text in texts)

    def _cut(self, text: str, ids: list[int]) -> list[Window]:
        most = self.max_tokens
        words = [match.span() for match in WORD.finditer(text)]
        return _from_start(
            [
                Window(ids[at : at + most], words[at][0], words[min(at + most, len(words)) - 1][1])
                for at in range(0, len(ids), most)
            ]
        )


def _ids_of_words(text: str) -> list[int]:
    if text.isprintable():  # it has no white space but blanks then, and UTF-8 can be split as well
        return list(map(zlib.crc32, text.encode().split()))
    return [zlib.crc32(word.encode()) if any(map(str.isprintable, word)) else UNPRINTED for word in text.split()]
