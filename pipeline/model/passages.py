"""Passages: what of a text is embedded, and what becomes of one that is too long."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.model.cut import cut
from pipeline.model.tokens import Tokenizer, Window

OnLong = Literal["truncate", "split", "reject"]
LEAST_HEAD, HEAD_PER_TOKEN = 8192, 32  # characters of a text that show whether it is too long, mostly
HEADS = 256  # tokenised at once: what a tokenizer says of a token is ten times its id, so most is let go of soon
COUNTED_CHARS = 1 << 16  # of what truncating loses, tokenised at once
PIECES = 256  # of a text, tokenised at once
SLACK = 32  # a piece leaves one part in so many of its room free: alone it may have more tokens than in its text


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """Columns over the passages of some texts: every list but `too_long` and `empty` has one entry a passage."""

    text: list[int] = field(default_factory=list)  # index into the texts
    passage: list[int] = field(default_factory=list)  # 0-based within its text
    start: list[int] = field(default_factory=list)  # characters of the text, prompt left out
    stop: list[int] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)  # tokens that are in no passage, since this one was truncated
    ids: list[array[int]] = field(default_factory=list)  # token ids, prompt and special tokens included
    too_long: list[int] = field(default_factory=list)  # index of each text that has no passage for its length
    empty: list[int] = field(default_factory=list)  # index of each text of which the tokenizer leaves no token

    def add(self, text: int, passage: int, window: Window, *, lost: int | None = None) -> None:
        """Append one passage; what says how much it has lost is truncated."""
        self.text.append(text)
        self.passage.append(passage)
        self.start.append(window.start)
        self.stop.append(window.stop)
        self.truncated.append(lost is not None)
        self.lost.append(lost or 0)
        self.ids.append(array("q", window.ids))


def make_passages(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    prompt: str,
    on_long: OnLong,
    overlap: int = 0,
    keep_empty: bool = False,
) -> Passages:
    """Tokenise texts behind the prompt and apply the policy for those over the tokenizer's limit.

    A passage of a text that is split has the token ids of prompt and passage alone. Every character of the text is in
    one, but white space at its ends and a passage of which the tokenizer leaves nothing; a character that by itself is
    over the limit is truncated. A text of which the tokenizer leaves nothing but special tokens has a passage only
    where `keep_empty`. Raises ConfigError where prompt and overlap leave no room for a text.
    """
    room, silent, passages = room_of(tokenizer, prompt, overlap), _silent(tokenizer, prompt), Passages()
    n_special = len(tokenizer.windows([""])[0][0].ids)
    for index, (text, (windows, n_read)) in enumerate(zip(texts, _heads(texts, tokenizer, prompt), strict=True)):
        first = _behind(len(prompt), windows[0]) if prompt else windows[0]
        if silent.issuperset(first.ids) and not keep_empty and _is_empty(text, tokenizer):
            passages.empty.append(index)
        elif len(windows) == 1:
            passages.add(index, 0, first)
        elif on_long == "reject":
            passages.too_long.append(index)
        elif on_long == "truncate":
            n_rest = tokenizer.count(_blocks(text, n_read)) if n_read < len(text) else 0
            passages.add(index, 0, first, lost=n_rest + _n_behind(windows, n_special))
        else:
            number = 0
            for window, windows in _pieces(text, tokenizer, prompt, room, overlap):
                if silent.issuperset(window.ids) and _is_empty(text[window.start : window.stop], tokenizer):
                    continue
                lost = _n_behind(windows, n_special) if len(windows) > 1 else None
                passages.add(index, number, window, lost=lost)
                number += 1
            if not number:
                passages.empty.append(index)
    return passages


def room_of(tokenizer: Tokenizer, prompt: str, overlap: int) -> int:
    """Return the tokens of a piece that is put behind a prompt; raises ConfigError where there is no room for one."""
    room = tokenizer.max_tokens - sum(len(window.ids) for window in tokenizer.windows([prompt])[0])
    room -= room // SLACK
    if room <= overlap:
        raise ConfigError(
            "model.max_tokens: expected room for a token beside the special ones, the prompt and an overlap of "
            f"{overlap}, found {tokenizer.max_tokens}"
        )
    return room


def _heads(texts: Sequence[str], tokenizer: Tokenizer, prompt: str) -> Iterator[tuple[list[Window], int]]:
    """Yield the windows of each text, of a long one those of its beginning, and how many characters they are of.

    They are as many as it takes for a second window, if the text has one.
    """
    most = max(LEAST_HEAD, HEAD_PER_TOKEN * tokenizer.max_tokens)
    for at in range(0, len(texts), HEADS):
        some = texts[at : at + HEADS]
        found = tokenizer.windows([prompt + text[:most] for text in some])
        for text, windows in zip(some, found, strict=True):
            n_read = most
            while len(windows) == 1 and n_read < len(text):
                n_read *= 8
                windows = tokenizer.windows([prompt + text[:n_read]])[0]
            yield windows, min(n_read, len(text))


def _blocks(text: str, start: int) -> list[str]:
    return [text[at : at + COUNTED_CHARS] for at in range(start, len(text), COUNTED_CHARS)]


def _n_behind(windows: Sequence[Window], n_special: int) -> int:
    """Return how many tokens are behind the first window."""
    return sum(len(window.ids) - n_special for window in windows[1:])


Piece = tuple[Window, list[Window]]  # of a text, and its windows behind the prompt: one, unless it cannot be cut again


def _pieces(text: str, tokenizer: Tokenizer, prompt: str, room: int, overlap: int) -> Iterator[Piece]:
    """Yield the pieces of a text, each of which begins behind the one before it, and ends behind it."""
    cuts, done, held = cut(text, tokenizer.starts, room=room, overlap=overlap), 0, list[Piece]()
    while some := list(islice(cuts, PIECES)):
        found = tokenizer.windows([prompt + text[start:stop] for start, stop in some])
        for (start, stop), windows in zip(some, found, strict=True):
            pieces = list(_again(text[start:stop], windows, tokenizer, prompt, room, overlap))
            new = [
                (Window(window.ids, start + window.start, start + window.stop), behind)
                for window, behind in pieces
                if start + window.stop > done  # and not all in what is shared with the piece before
            ]
            while new and held and held[-1][0].start >= new[0][0].start:
                held.pop()  # it is all in the one that follows
            yield from held
            held, done = new, stop
    yield from held


def _again(
    piece: str, windows: list[Window], tokenizer: Tokenizer, prompt: str, room: int, overlap: int
) -> Iterator[Piece]:
    """Yield a piece, or where it has more tokens alone than in its text, what it is cut into."""
    if len(windows) == 1:
        yield Window(windows[0].ids, 0, len(piece)), windows
    elif room > 1:
        yield from _pieces(piece, tokenizer, prompt, room * 3 // 4, overlap)
    else:
        yield _behind(len(prompt), windows[0]), windows


def _silent(tokenizer: Tokenizer, prompt: str) -> frozenset[int]:
    """Return the ids that a text without a token of its own can have, behind the prompt."""
    heads = tokenizer.windows([prompt, f"{prompt} "]) if prompt else []  # a character may also become a space
    return tokenizer.blank.union(*(window.ids for windows in heads for window in windows))


def _is_empty(text: str, tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer leaves nothing but special tokens of a text without its prompt."""
    return all(tokenizer.blank.issuperset(window.ids) for window in tokenizer.windows([text])[0])


def _behind(n_prompt: int, window: Window) -> Window:
    return Window(window.ids, max(0, window.start - n_prompt), max(0, window.stop - n_prompt))
