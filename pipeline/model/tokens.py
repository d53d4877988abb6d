"""Text to token ids and passages, with the model's own tokenizer and without its engine."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import tokenizers

from pipeline.config import ENGINES, Config
from pipeline.errors import ConfigError, EngineError
from pipeline.model.files import locate

OnLong = Literal["truncate", "split", "reject"]
RETOKENISATION_MARGIN = 8  # tokens a piece may grow by when it is tokenised again behind a prompt
UNPRINTED = -1  # the id of a word that says nothing; that of no other word
SPACES = ("\u2581", "\u0120")  # pieces that write a space: of SentencePiece, and of a BPE over bytes


class Window(NamedTuple):
    """Token ids, special tokens included, of the characters [start, stop) of a text."""

    ids: list[int]
    start: int
    stop: int


class Tokenizer(Protocol):
    """Cuts texts into windows of at most `max_tokens` tokens; a text that fits is one window."""

    @property
    def blank(self) -> frozenset[int]:
        """The ids that say nothing of a text: special tokens and a space."""
        ...

    def windows(self, texts: Sequence[str]) -> list[list[Window]]:
        """Return the windows of each text, in order; the first always starts at character 0."""
        ...


def make_tokenizer(config: Config, *, max_tokens: int, overlap: int = 0) -> Tokenizer:
    """Return the tokenizer of the configured model, which loads no engine.

    Raises EngineError when the model has no tokenizer.json, and ConfigError for limits that leave no room for a text.
    """
    if not ENGINES[config.engine.kind].needs_weights:
        return WordTokenizer(max_tokens=max_tokens, overlap=overlap)
    folder = locate(config.model, settings_only=True)
    return ModelTokenizer(folder / "tokenizer.json", max_tokens=max_tokens, overlap=overlap)


class ModelTokenizer:
    """The tokenizer a model was trained with; cutting keeps its final special token."""

    def __init__(self, path: Path, *, max_tokens: int, overlap: int) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            raise EngineError(f"{path}: expected a tokenizer.json, found: {error}") from error
        _check_room(max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False), overlap)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, stride=overlap)
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


def _blank(tokenizer: tokenizers.Tokenizer) -> frozenset[int]:
    """Return the ids that say nothing of a text; the unknown token is none, for it takes the place of a word."""
    added = tokenizer.get_added_tokens_decoder().items()
    special = {number for number, token in added if token.special and "unk" not in token.content.lower()}
    spaces = {tokenizer.token_to_id(piece) for piece in SPACES}
    return frozenset(special | {number for number in spaces if number is not None})


def _check_room(max_tokens: int, overlap: int) -> None:
    if max_tokens - max(overlap, 0) < 1:
        raise ConfigError(
            f"model.max_tokens: expected room for a token beside the special ones, the prompt and an overlap of "
            f"{overlap}, found {max_tokens}"
        )


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

    def __init__(self, *, max_tokens: int, overlap: int) -> None:
        _check_room(max_tokens, overlap)
        self._max_tokens = max_tokens
        self._step = max_tokens - overlap

    def windows(self, texts: Sequence[str]) -> list[list[Window]]:
        """Return the windows of each text."""
        return [self._cut(text) for text in texts]

    def _cut(self, text: str) -> list[Window]:
        ids = [zlib.crc32(word.encode()) if _is_printed(word) else UNPRINTED for word in text.split()]
        if len(ids) <= self._max_tokens:
            return [Window(ids, 0, len(text))]
        words = [match.span() for match in re.finditer(r"\S+", text)]
        starts = range(0, len(ids) - self._max_tokens + self._step, self._step)
        return _from_start(
            [
                Window(ids[i : i + self._max_tokens], words[i][0], words[min(i + self._max_tokens, len(words)) - 1][1])
                for i in starts
            ]
        )


def _is_printed(word: str) -> bool:
    return word.isprintable() or any(map(str.isprintable, word))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """Columns over the passages of some texts: every list but `too_long` and `empty` has one entry a passage."""

    text: list[int] = field(default_factory=list)  # index into the texts
    passage: list[int] = field(default_factory=list)  # 0-based within its text
    start: list[int] = field(default_factory=list)  # characters of the text, prompt left out
    stop: list[int] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)  # token ids, prompt and special tokens included
    too_long: list[int] = field(default_factory=list)  # index of each text that has no passage for its length
    empty: list[int] = field(default_factory=list)  # index of each text of which the tokenizer leaves no token

    def add(self, text: int, passage: int, window: Window, *, truncated: bool) -> None:
        """Append one passage."""
        self.text.append(text)
        self.passage.append(passage)
        self.start.append(window.start)
        self.stop.append(window.stop)
        self.truncated.append(truncated)
        self.ids.append(window.ids)


def make_passages(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    splitter: Tokenizer,
    *,
    prompt: str,
    on_long: OnLong,
    keep_empty: bool = False,
) -> Passages:
    """Tokenise texts behind the prompt and apply the policy for those over the tokenizer's limit.

    `splitter` cuts bare text into pieces that leave room for the prompt. Split passages cover a text from its
    first token to its last; one that still does not fit is marked truncated. A text of which the tokenizer leaves
    nothing but special tokens has a passage only where `keep_empty`.
    """
    passages, silent = Passages(), _silent(tokenizer, prompt)
    for index, windows in enumerate(tokenizer.windows([prompt + text for text in texts] if prompt else texts)):
        first = _behind(len(prompt), windows[0])
        if silent.issuperset(first.ids) and not keep_empty and _is_empty(texts[index], tokenizer):
            passages.empty.append(index)
        elif len(windows) == 1:
            passages.add(index, 0, first, truncated=False)
        elif on_long == "reject":
            passages.too_long.append(index)
        elif on_long == "truncate":
            passages.add(index, 0, first, truncated=True)
        else:
            _split(passages, index, texts[index], tokenizer, splitter, prompt)
    return passages


def _silent(tokenizer: Tokenizer, prompt: str) -> frozenset[int]:
    """Return the ids that a text without a token of its own can have, behind the prompt."""
    heads = tokenizer.windows([prompt, f"{prompt} "]) if prompt else []  # a character may also become a space
    return tokenizer.blank.union(*(window.ids for windows in heads for window in windows))


def _is_empty(text: str, tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer leaves nothing but special tokens of a text without its prompt."""
    return all(tokenizer.blank.issuperset(window.ids) for window in tokenizer.windows([text])[0])


def _split(passages: Passages, index: int, text: str, tokenizer: Tokenizer, splitter: Tokenizer, prompt: str) -> None:
    pieces = splitter.windows([text])[0]
    if not prompt:
        for passage, piece in enumerate(pieces):
            passages.add(index, passage, piece, truncated=False)
        return
    again = tokenizer.windows([prompt + text[piece.start : piece.stop] for piece in pieces])
    for passage, (piece, windows) in enumerate(zip(pieces, again, strict=True)):
        first = _behind(len(prompt), windows[0])
        window = Window(first.ids, piece.start, piece.start + first.stop)
        passages.add(index, passage, window, truncated=len(windows) > 1)


def _behind(n_prompt: int, window: Window) -> Window:
    return Window(window.ids, max(0, window.start - n_prompt), max(0, window.stop - n_prompt))
