"""The options of a run, beside input, output and config."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How far a run goes, and what it does about a dataset that is there already."""

    limit: int | None = None  # rows of the whole corpus, finished ones included
    skip_bad_files: bool = False
    rebuild: bool = False  # replace a dataset of another recipe, once the new one is whole
    rehash: bool = False  # read every shard again, whatever its date says
    keep_missing: bool = False  # keep the rows of shards that are gone
