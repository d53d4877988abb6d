"""Times: where those of the last run went, and when each of its parts was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import Receipt, Run, Store
from pipeline.files import is_file

SEED = 0
MAX_CHUNKS = 2_000  # that are drawn
SLACK_S = 2.0  # dates of files may be whole seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A share of a run's time."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Chunks of the last run, in the order in which their parts were written; arrays of shape (n,)."""

    parts: list[str]
    written_s: NDArray[np.float64]  # seconds since the run began
    rates: NDArray[np.float64]  # tokens of the engine a second
    tokens: NDArray[np.int64]  # that the engine had
    seconds: NDArray[np.float64]  # of the engine
    n_embedded: int  # chunks of the dataset that an engine had, of which MAX_CHUNKS are looked at

    @property
    def is_drawn(self) -> bool:
        """Whether there may be more chunks of the run."""
        return self.n_embedded > MAX_CHUNKS

    def __len__(self) -> int:
        return len(self.parts)


def phases(run: Run, receipts: Iterable[Receipt]) -> list[Phase]:
    """Return where the time of a run went whose chunks one engine embedded; nothing where that cannot be known.

    That is a run that ended, of one container, whose engine was made ready after it began.
    """
    ended_at = run.started_at + run.wall_s
    of_run = [each for each in receipts if each.engine_calls and run.started_at < each.engine_ready_at <= ended_at]
    engines = {(each.container, each.engine_ready_at) for each in of_run}
    if len(engines) != 1 or not run.engine_busy:
        return []
    [(_, ready_at)] = engines
    held_s = run.engine_s / run.engine_busy
    before_s = ready_at - run.started_at
    found = {
        "reading the input and loading the model": before_s,
        "engine at work": run.engine_s,
        "engine waiting for texts": held_s - run.engine_s,
        "writing the last parts and closing": run.wall_s - before_s - held_s,
    }
    return [Phase(name=name, seconds=max(0.0, seconds)) for name, seconds in found.items()]


def chunks(store: Store, run: Run, receipts: Iterable[Receipt]) -> Chunks:
    """Return the chunks that the engine embedded in a run, as far as the dates of their files are still those of it.

    Of many, MAX_CHUNKS chosen by a fixed seed.
    """
    embedded = [each for each in receipts if each.engine_calls and each.engine_s > 0 and each.engine_tokens]
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(embedded))[:MAX_CHUNKS])
    found = []
    for receipt in (embedded[index] for index in drawn):
        path = store.data_path(receipt.part)
        at = path.stat().st_mtime - run.started_at if is_file(path) else -1.0
        if 0 < at <= run.wall_s + SLACK_S:
            found.append((at, receipt))
    found.sort(key=lambda item: item[0])
    return Chunks(
        parts=[receipt.part for _, receipt in found],
        written_s=np.array([at for at, _ in found], np.float64),
        rates=np.array([receipt.engine_tokens / receipt.engine_s for _, receipt in found], np.float64),
        tokens=np.array([receipt.engine_tokens for _, receipt in found], np.int64),
        seconds=np.array([receipt.engine_s for _, receipt in found], np.float64),
        n_embedded=len(embedded),
    )
