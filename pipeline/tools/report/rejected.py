"""Rejected rows: some of each reason, without reading all that there are."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.dataset import Receipt, Store, iter_rejects

SAMPLES = 5  # of a reason
MAX_FILES = 200
MAX_ROWS = 2_000  # of a file
SHOWN = 160  # characters of a text or a detail


def samples(store: Store, receipts: Iterable[Receipt]) -> dict[str, list[dict[str, Any]]]:
    """Return the first rejected rows of each reason, by reason, as `list_rejects` has them but with shorter texts.

    Raises DamageError for a file that cannot be read.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    enough: Counter[str] = Counter()
    for receipt in itertools.islice((each for each in receipts if each.has_rejects), MAX_FILES):
        if receipt.reasons and all(enough[reason] >= SAMPLES for reason in receipt.reasons):
            continue
        for reject in itertools.islice(iter_rejects(store, [receipt]), MAX_ROWS):
            reason = str(reject["reason"])
            enough[reason] += 1
            if enough[reason] <= SAMPLES:
                shown = {name: (reject[name] or "")[:SHOWN] for name in ("detail", "text")}
                found.setdefault(reason, []).append(reject | shown)
    return found
