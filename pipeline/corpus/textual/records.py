"""Records of CSV: where they end, by RFC 4180 with what its parsers make of a quote that is in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.textual.lines import NONE, Ends
from pipeline.corpus.textual.record import UTF8_BOM

QUOTE, NEWLINE, RETURN = ord('"'), ord("\n"), ord("\r")


class Records:
    """Finds the ends of records in blocks that follow one another, as pyarrow and Python's csv do.

    A quote opens a value only where one begins, and the next single quote closes it: two are a quote in the value, and
    quotes elsewhere are text. A record ends at CR, LF or CRLF outside of quotes.
    """

    def __init__(self, delimiter: str, *, is_quoted: bool = False) -> None:
        self._starts_value = np.isin(np.arange(256), list(f"{delimiter}\n\r".encode()))
        self.is_quoted = is_quoted  # whether the blocks so far end inside of quotes
        self.n_odd = 0  # quotes that are text
        self._last = NEWLINE  # their last byte
        self._closed = False  # whether that is a quote that closed a value
        self._held = b""  # a CR at their end, which may be half of CRLF

    def ends(self, block: bytes, *, is_last: bool = False) -> tuple[bytes, NDArray[np.int64]]:
        """Return the block as it was searched, with a held CR, and the positions after each record that ends in it."""
        block = self._held + block
        self._held = b""
        if block.endswith(b"\r") and not is_last:
            block, self._held = block[:-1], b"\r"
        if not block:
            return block, NONE
        data = np.frombuffer(block, np.uint8)
        stops = np.flatnonzero(data == NEWLINE)
        if b"\r" in block:
            returns = np.flatnonzero(data == RETURN)
            alone = returns[(returns + 1 == len(data)) | (data[np.minimum(returns + 1, len(data) - 1)] != NEWLINE)]
            stops = np.union1d(stops, alone) if len(alone) else stops
        was_quoted = self.is_quoted
        quotes = self._quotes(data) if b'"' in block else NONE
        if len(quotes) or was_quoted:
            stops = stops[(np.searchsorted(quotes, stops) + was_quoted) % 2 == 0]
        self.is_quoted = bool((len(quotes) + was_quoted) % 2)
        self._last = int(data[-1])
        self._closed = bool(len(quotes)) and quotes[-1] == len(data) - 1 and not self.is_quoted
        return block, stops + 1

    def _quotes(self, data: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return where quotes open or close, in turn; those that are text are left out."""
        quotes: NDArray[np.int64] = np.flatnonzero(data == QUOTE)
        before = data[quotes - 1]
        begins = self._starts_value[before]
        after_quote = np.concatenate([[False], quotes[1:] == quotes[:-1] + 1])
        if quotes[0] == 0:
            begins[0], after_quote[0] = self._starts_value[self._last], self._closed
        # Of quotes that open and close in turn, those that open begin a value, or follow one that closed.
        wrong = np.flatnonzero(~(begins | after_quote))
        of_parity = [wrong[wrong % 2 == 0], wrong[wrong % 2 == 1]]
        may_open = np.flatnonzero(begins)
        is_text = np.zeros(len(quotes), bool)
        at = int(self.is_quoted)
        while True:
            odd = of_parity[at % 2]
            first = int(np.searchsorted(odd, at))
            if first == len(odd):
                self.n_odd += int(np.count_nonzero(is_text))
                return np.compress(~is_text, quotes)
            text = int(odd[first])
            opens = int(np.searchsorted(may_open, text))
            at = int(may_open[opens]) if opens < len(may_open) else len(quotes)
            is_text[text:at] = True


def record_ends(blocks: Iterator[bytes], start: int, delimiter: str) -> Iterator[Ends]:
    """Yield for the records that end in blocks from byte `start` on, and at last for one without its line end: where,
    and whether it is an empty line. At the start of a file the header comes first, and is none of them."""
    records, is_header = Records(delimiter), start == 0
    at = begin = start  # of the next block, and of the record that it begins in
    is_last = False
    while not is_last:
        block = next(blocks, b"")
        is_last = not block
        if at == 0 and block.startswith(UTF8_BOM):
            block, at, begin = block.removeprefix(UTF8_BOM), len(UTF8_BOM), len(UTF8_BOM)
        block, stops = records.ends(block, is_last=is_last)
        if len(stops):
            blank = _are_blank(block, stops, int(stops[0]) + at - begin)
            stops = stops + at
            begin = int(stops[-1])
            if is_header and not blank.all():
                n_first = int(np.argmin(blank)) + 1
                stops, blank, is_header = stops[n_first:], blank[n_first:], False
            if not is_header and len(stops):
                yield stops, blank
        at += len(block)
    if at > begin and not is_header:
        yield np.array([at]), np.array([False])


def split(data: bytes, delimiter: str) -> tuple[NDArray[np.int64], NDArray[np.bool_], bool]:
    """Return where each record of whole ones ends, which are empty lines, and whether the last has a quote that is not
    closed."""
    records = Records(delimiter)
    _, stops = records.ends(data, is_last=True)
    if data and (not len(stops) or stops[-1] < len(data)):
        stops = np.append(stops, len(data))
    return stops, _are_blank(data, stops, int(stops[0]) if len(stops) else 0), records.is_quoted


def first_record(data: bytes, delimiter: str, *, is_all: bool) -> tuple[int, int]:
    """Return where the first record in the first bytes of a file starts and stops that is no empty line, after a BOM.

    It stops after the bytes where they do not have its end. They are all of the file, or more follow.
    """
    bom = len(UTF8_BOM) if data.startswith(UTF8_BOM) else 0
    stops, blank, _ = split(data[bom:], delimiter)
    full = np.flatnonzero(~blank)
    if not len(full):
        return len(data), len(data) + (not is_all)
    at = int(full[0])
    is_cut = not is_all and at == len(stops) - 1
    start = int(stops[at - 1]) if at else 0
    return bom + start, bom + int(stops[at]) + is_cut


def _are_blank(block: bytes, stops: NDArray[np.int64], n_first: int) -> NDArray[np.bool_]:
    """Return which records are a line end alone; the first has `n_first` bytes, some of them before the block."""
    if not len(stops):
        return np.array([], bool)
    sizes = np.diff(stops, prepend=stops[0] - n_first)
    data = np.frombuffer(block, np.uint8)
    blank: NDArray[np.bool_] = (sizes == 1) & ((data[stops - 1] == NEWLINE) | (data[stops - 1] == RETURN))
    pairs = np.flatnonzero((sizes == 2) & (stops > 1))
    blank[pairs] = (data[stops[pairs] - 2] == RETURN) & (data[stops[pairs] - 1] == NEWLINE)
    return blank
