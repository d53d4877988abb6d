"""Measuring: how many tokens the rows of an input have, from a sample of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pipeline.chunk import Density, Shard
from pipeline.config import Config
from pipeline.corpus import Corpus, Rows
from pipeline.errors import CorpusError
from pipeline.model import make_tokenizer

SAMPLED_SHARDS = 16


@contextlib.contextmanager
def skipping(shard: Shard, bad: dict[str, str] | None) -> Iterator[None]:
    """Add a shard that cannot be read to `bad`, if that is given."""
    try:
        yield
    except CorpusError as error:
        if bad is None:
            raise
        bad[shard.source] = str(error)


def measure(corpus: Corpus, shards: Sequence[Shard], config: Config, bad: dict[str, str] | None = None) -> Density:
    """Tokenise the first rows of some shards, spread evenly over the given ones; those not readable go into `bad`.

    Where there is nothing to measure, a token is taken for a row, and for four bytes.
    """
    counts: list[int] = []
    n_bytes, of_lines = 0, 0
    if shards:
        tokenizer = make_tokenizer(config, max_tokens=config.model.max_tokens)
    for shard in shards[:: max(1, len(shards) // SAMPLED_SHARDS)]:
        rows, n_head_bytes = Rows(kept=pa.table({})), 0
        with skipping(shard, bad):
            rows, n_head_bytes = corpus.reader(shard).head(replace(corpus.columns, keep=()))
        windows = tokenizer.windows([config.model.document_prompt + text for text in rows.text])
        cut = None if config.corpus.on_long == "split" else 1
        found = [sum(len(window.ids) for window in of_text[:cut]) for of_text in windows]
        counts += found
        if n_head_bytes:
            n_bytes, of_lines = n_bytes + n_head_bytes, of_lines + sum(found)
    mean = float(np.mean(counts)) if counts else 1.0
    error = float(np.std(counts) / np.sqrt(len(counts))) if counts else 0.0
    return Density(
        tokens_per_row=mean, tokens_per_byte=of_lines / n_bytes if of_lines else 0.25, spread=error / max(mean, 1.0)
    )
