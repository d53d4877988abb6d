"""Passages: what is embedded. A row is one passage unless its text is too long and may be split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.model.tokens import Tokenizer, Window

OnLong = Literal["truncate", "split", "reject"]
RETOKENISATION_MARGIN = 8  # tokens a piece may grow by when it is tokenised again behind a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """Columns over the passages of some texts: every list but `too_long` has one entry a passage."""

    text: list[int] = field(default_factory=list)  # index into the texts
    passage: list[int] = field(default_factory=list)  # 0-based within its text
    start: list[int] = field(default_factory=list)  # characters of the text, prompt left out
    stop: list[int] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)  # token ids, prompt and special tokens included
    too_long: list[int] = field(default_factory=list)  # index of each text that has no passage

    def add(self, text: int, passage: int, window: Window, *, truncated: bool) -> None:
        """Append one passage."""
        self.text.append(text)
        self.passage.append(passage)
        self.start.append(window.start)
        self.stop.append(window.stop)
        self.truncated.append(truncated)
        self.ids.append(window.ids)


def make_passages(
    texts: Sequence[str], tokenizer: Tokenizer, splitter: Tokenizer, *, prompt: str, on_long: OnLong
) -> Passages:
    """Tokenise texts behind the prompt and apply the policy for those over the tokenizer's limit.

    `splitter` cuts bare text into pieces that leave room for the prompt. Split passages cover a text from its
    first token to its last; one that still does not fit is marked truncated.
    """
    passages = Passages()
    for index, windows in enumerate(tokenizer.windows([prompt + text for text in texts] if prompt else texts)):
        first = _behind(len(prompt), windows[0])
        if len(windows) == 1:
            passages.add(index, 0, first, truncated=False)
        elif on_long == "reject":
            passages.too_long.append(index)
        elif on_long == "truncate":
            passages.add(index, 0, first, truncated=True)
        else:
            _split(passages, index, texts[index], tokenizer, splitter, prompt)
    return passages


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
