"""Progress on stderr: a live bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from pipeline.dataset.manifest import Receipt

LINE_EVERY_S = 10.0


class Progress:
    """Counts rows and tokens of the receipts of one run; writes past any redirection of stderr that comes later."""

    def __init__(self, n_rows: int) -> None:
        self._stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
        self._live = self._stream.isatty()
        self._bar = tqdm(total=n_rows, unit=" rows", file=self._stream, disable=not self._live, smoothing=0.1)
        self._n_rows, self._rows, self._tokens = n_rows, 0, 0
        self._began = self._said = time.time()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._stream.close()

    def add(self, receipt: Receipt) -> None:
        """Count a finished chunk."""
        if not self._rows and receipt.engine_ready_at:
            self._began = receipt.engine_ready_at  # what loading took says nothing of what is left
        self._rows += receipt.input_rows
        self._tokens += receipt.tokens
        now = time.time()
        rate = self._tokens / max(now - self._began, 1e-9)
        self._bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
        self._bar.update(receipt.input_rows)
        if not self._live and now - self._said >= LINE_EVERY_S:
            self._said = now
            left_s = (now - self._began) * (self._n_rows - self._rows) / max(self._rows, 1)
            self._stream.write(
                f"{self._rows:,} of {self._n_rows:,} rows, {rate:,.0f} tokens/s, about {left_s:,.0f} s left\n"
            )
            self._stream.flush()
