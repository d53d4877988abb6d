"""Cutting: where a text that is too long for one passage is divided, in time that grows with its length alone.

A cut is at the end of a paragraph, else of a sentence, a line or a word; it is inside a word where nothing better is
near. It depends on where its piece begins and on the text around it: behind an edit the cuts soon are where they were.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.model.tokens import Tokens

LEAST_CHARS, CHARS_PER_TOKEN = 1 << 16, 32  # of a block, which is tokenised at once: it bounds memory
NEARBY = 32  # characters on either side of a cut that choose it
ONE_IN = 4  # cuts of a kind comes before the others; with more of them fewer cuts move, and pieces are shorter
LONGEST_CLUSTER = 16  # characters that a cut inside a word moves back at most, so that no mark leaves its letter
PARAGRAPH, SENTENCE, LINE, WORD = range(4)

CLOSING = "[\"'\u2019\u201d\u00bb)\\]}\u300d\u300f\uff09\u3011\u300b]*+"
SMALL = "[a-z\u00df-\u00f6\u00f8-\u00ff\u03b1-\u03c9\u0430-\u045f]"
FULL_STOPS = "[\u3002\uff01\uff1f\uff61\u0964\u0965\u06d4\u061f\u104b\u1362]++"  # that need no space behind them
COMMAS = "[\u3001\uff0c\uff1b\uff1a\u060c]"
END = re.compile(
    rf"(?P<stop>[.!?\u2026]{CLOSING})?(?P<gap>\s++)(?P<small>{SMALL})?|(?P<full>{FULL_STOPS}{CLOSING})|{COMMAS}"
)
WHITE = re.compile(r"\s*+")


def cut(text: str, starts: Callable[[str], Tokens], *, room: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield the characters [start, stop) of the pieces of a text, in order, each of `room` tokens or few more at most.

    Every character that is no white space is in a piece. A piece begins `overlap` tokens before the one before it ends,
    or at the word in which that is. `starts` gives the tokens of one block of the text at a time.
    """
    size = max(LEAST_CHARS, CHARS_PER_TOKEN * room)
    at = done = ended = 0
    while done < len(text):
        block = text[at : at + size]
        is_last = at + size >= len(text)
        following = 0
        ends = _ends(block, starts(block), done - at, room, min(overlap, room // 2), is_last=is_last)
        for stop, again in ends:
            start = _behind_white(block, following)
            end = at + start + len(block[start:stop].rstrip())
            if end > max(ended, at + start):
                yield at + start, end
                ended = end
            done, following = at + stop, again
        at += following
        if is_last:
            return


def _ends(
    block: str, tokens: Tokens, stop: int, room: int, overlap: int, *, is_last: bool
) -> Iterator[tuple[int, int]]:
    """Yield where each piece ends that a block has whole, behind `stop`, and where the next one begins."""
    at = first = 0  # where a piece begins: the character, and the number of tokens before it
    while first + room < len(tokens) or not (is_last or at):
        half, limit = (int(tokens[n]) if n < len(tokens) else len(block) for n in (first + room // 2, first + room))
        if overlap and first + overlap < len(tokens):  # a piece has more than it shares
            stop = max(stop, int(tokens[first + overlap]))
        half = max(stop, half)
        stop = _best(block, stop, half, limit) or _in_word(block, stop, limit)
        begun = _behind_white(block, at)
        again = _shared(block, tokens, begun, stop, room, overlap) if overlap else stop
        at = again if again > begun else max(at + 1, stop)
        first = int(np.searchsorted(tokens, at))
        yield stop, at
    if is_last and (end := len(block.rstrip())) > stop:
        yield end, len(block)


def _best(block: str, done: int, half: int, limit: int) -> int:
    """Return the best end of a piece, behind the character `done` and not behind another; 0 where there is none.

    It is of the best kind that there is in the second half. Of this kind it is the last one of those that the text
    around them prefers, so that it stays when more or less text is before them.
    """
    found = [each for match in END.finditer(block, done, limit + NEARBY) if done < (each := _read(match))[0] <= limit]
    behind_half = [kind for stop, kind in found if stop > half]
    best = min(behind_half or [kind for _, kind in found], default=WORD)
    ends = [stop for stop, kind in found if kind == best]
    return max(
        [stop for stop in ends if stop > done + (half - done) // 2 and _is_preferred(block, stop)] or ends, default=0
    )


def _read(match: re.Match[str]) -> tuple[int, int]:
    """Return where an end is, and of which kind."""
    gap = match["gap"]
    if gap is None:
        return match.end(), SENTENCE if match["full"] else WORD
    if gap.count("\n") > 1 or "\f" in gap or "\u2029" in gap:
        return match.start("gap"), PARAGRAPH
    if match["stop"] and not match["small"]:
        return match.start("gap"), SENTENCE
    return match.start("gap"), LINE if "\n" in gap else WORD


def _is_preferred(block: str, stop: int) -> bool:
    nearby = block[max(0, stop - NEARBY) : stop + NEARBY]
    return zlib.crc32(nearby.encode("utf-8", "surrogatepass")) % ONE_IN == 0


def _in_word(block: str, low: int, limit: int) -> int:
    """Return the last character up to a limit at which no cluster of marks is cut, if one is near; else the limit."""
    limit = max(limit, low + 1)
    near = range(limit, max(low, limit - LONGEST_CLUSTER), -1)
    return next((stop for stop in near if not _is_joined(block[stop - 1], block[stop : stop + 1])), limit)


def _is_joined(before: str, after: str) -> bool:
    """Whether two neighbours are seen as one character; not all that Unicode has of such, but the common ones."""
    is_modifier = "\U0001f3fb" <= after <= "\U0001f3ff"
    is_mark = after != "" and unicodedata.category(after)[0] == "M"
    return is_mark or is_modifier or "\u200d" in (before, after) or before + after == "\r\n"


def _shared(block: str, tokens: Tokens, begun: int, stop: int, room: int, overlap: int) -> int:
    """Return where a piece begins that shares tokens with the one from `begun` to `stop`: at a word, if one is near."""
    number = int(np.searchsorted(tokens, stop)) - overlap
    at, least = (int(tokens[max(0, n)]) for n in (number, number - min(overlap, (room - overlap) // 2)))
    least = max(begun, len(block[begun:least].rstrip()) + begun)  # a word may begin there
    gaps = [match.start("gap") for match in END.finditer(block, least, at + 1) if match["gap"]]
    return gaps[-1] if gaps else at


def _behind_white(block: str, at: int) -> int:
    found = WHITE.match(block, at)
    return found.end() if found else at
