"""Elements of a JSON array: where they end, found without parsing them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.textual.lines import NONE

QUOTE, BACKSLASH, COMMA, OPEN, CLOSE = b'"\\,{}'
BRACE = 32  # the bit that makes a brace of a square bracket
STEP = np.zeros(256, np.int8)  # how each byte changes the depth
STEP[list(b"[{")], STEP[list(b"]}")] = 1, -1
NO_ROWS = np.array([], bool)


class Elements:
    """Finds the ends of elements in blocks that follow one another: after their commas, the last before the bracket.

    What is between two commas of the array is an element, even if it is no JSON or blank.
    """

    def __init__(self, *, is_begun: bool) -> None:
        self._depth = int(is_begun)  # 0 before and after the array, 1 among its elements
        self._is_string = False  # whether the blocks so far end in a string
        self._is_escape = False  # whether an odd number of backslashes is at their end
        self.is_blank = True  # whether the element in which they end is blank so far
        self.is_ended = False

    def ends(self, block: bytes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the positions after each element that ends in a block, and which of the elements are blank.

        Raises ValueError for bytes after the array.
        """
        start = 0
        if not self._depth and not self.is_ended:
            start = block.find(b"[") + 1
            self._depth = int(start > 0)
        if self.is_ended or not self._depth:
            self._check_nothing(block if self.is_ended else b"")
            return NONE, NO_ROWS
        block = block[start:]
        if not block:
            return NONE, NO_ROWS
        data = np.frombuffer(block, np.uint8)
        braces = data | BRACE
        places = np.flatnonzero((data == QUOTE) | (data == COMMA) | (braces == OPEN) | (braces == CLOSE))
        kinds = data[places]
        is_quote = kinds == QUOTE
        turns = is_quote & ~self._are_escaped(block, places, is_quote)  # where a string begins or ends
        in_string = (np.cumsum(turns, dtype=np.uint8) & 1) != self._is_string
        self._is_string = bool(in_string[-1]) if len(places) else self._is_string
        places = places[~(is_quote | in_string)]
        depths = self._depth + np.cumsum(STEP[data[places]], dtype=np.int64)
        after = np.flatnonzero(depths == 0)[:1]
        self.is_ended = bool(len(after))
        found = np.append(np.flatnonzero((data[places] == COMMA) & (depths == 1)), after)
        if self.is_ended:
            found = found[found <= after]
            self._check_nothing(block[places[after[0]] + 1 :])
        self._depth = 0 if self.is_ended else int(depths[-1]) if len(depths) else self._depth
        stops = places[found] + 1
        blank = self._blank(block, stops, found)
        if self.is_ended:
            stops[-1] -= 1
            if blank[-1]:
                stops, blank = stops[:-1], blank[:-1]
        return stops + start, blank

    def _blank(self, block: bytes, stops: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which elements are blank; `found` has the number of each of their ends among all of structure."""
        blank = np.zeros(len(stops), bool)
        for at in np.flatnonzero(np.diff(found, prepend=-1) == 1):  # with no structure inside
            start = int(stops[at - 1]) if at else 0
            blank[at] = _is_white(block[start : stops[at] - 1])
        blank[:1] &= self.is_blank
        last = int(stops[-1]) if len(stops) else 0
        self.is_blank = (last > 0 or self.is_blank) and _is_white(block[last:])
        return blank

    def _are_escaped(self, block: bytes, places: NDArray[np.int64], is_quote: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of some places have a quote after an odd number of backslashes; keeps those at the end."""
        escaped, was_escape, self._is_escape = np.zeros(len(places), bool), self._is_escape, False
        if was_escape and len(places) and places[0] == 0:
            escaped[0] = is_quote[0]
        if b"\\" not in block:
            return escaped
        data = np.frombuffer(block, np.uint8)
        escapes = np.flatnonzero(data == BACKSLASH)
        starts = escapes[np.diff(escapes, prepend=-2) != 1]  # of runs of them

        def is_odd(stops: NDArray[np.int64]) -> NDArray[np.bool_]:
            """Whether the run of backslashes before each of these places is odd, where there is one."""
            begin = starts[np.searchsorted(starts, stops - 1, side="right") - 1]
            return np.asarray((stops - begin + np.where(begin == 0, was_escape, False)) % 2 == 1)

        self._is_escape = bool(block.endswith(b"\\") and is_odd(np.array([len(data)]))[0])
        after = np.flatnonzero(is_quote & (data[places - 1] == BACKSLASH) & (places > 0))
        escaped[after] = is_odd(places[after])
        return escaped

    def _check_nothing(self, data: bytes) -> None:
        if not _is_white(data):
            raise ValueError(f"more after it: {data.strip()[:20].decode(errors='replace')!r}")


def _is_white(data: bytes) -> bool:
    return not data or data.isspace()
