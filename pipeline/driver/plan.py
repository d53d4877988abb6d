"""The survey: what an input holds, what of it an output already has, and the chunks still to be made."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from pipeline.chunk import Chunk, Shard, gaps
from pipeline.config import Config
from pipeline.console import READING, board, note
from pipeline.corpus import (
    ChunkReader,
    Corpus,
    Found,
    Input,
    Kinds,
    check_input,
    find_files,
    notices,
    open_corpus,
    rebased,
    root_key,
    settle,
)
from pipeline.dataset import Receipt, Store, check_ours
from pipeline.driver.changes import unchanged
from pipeline.driver.chunks import plan_chunks
from pipeline.driver.contents import Contents, contents_of
from pipeline.driver.inventory import Inventory, RunOptions
from pipeline.driver.match import take_inventory
from pipeline.driver.measure import Measured, measure
from pipeline.driver.size import chunk_size, measured_speed
from pipeline.errors import CorpusError, UsageError
from pipeline.recipe import column_settings

DEFAULT = RunOptions()
STREAM_ABOVE_BYTES = 1 << 30  # of files: what is below is read first, so that its faults are known before any cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run has before it: the corpus to read, the inventory to keep and the chunks to make."""

    shards: tuple[Shard, ...]  # all of the input
    corpus: Corpus  # what is to be read of it
    inventory: Inventory
    measured: Measured  # of the shards that are to be read
    chunks: tuple[Chunk, ...]  # of a long stream the first
    options: RunOptions
    rest: Iterable[Chunk] = ()  # of a long stream: found as the corpus is read
    n_rest_rows: int = 0  # about
    n_rest_chunks: int = 0  # about
    rest_tokens: float = 0.0  # about
    bad: Mapping[str, str] = field(default_factory=dict)  # shards that turned out unreadable in `rest` -> why

    @property
    def readable(self) -> list[Shard]:
        """The shards of the input, those left out that cannot be read."""
        return [shard for shard in self.shards if shard.source not in self.corpus.skipped]

    @property
    def n_rows_in_all(self) -> int:
        """Rows of the dataset once the chunks are made, rejected ones included; of a long stream about."""
        to_make = max(sum(chunk.n_rows for chunk in self.chunks), self.n_rest_rows)
        return to_make + sum(receipt.input_rows for receipt in self.inventory.kept.values())


def check_place(input: Input, store: Store) -> None:
    """Raise UsageError for an output that is not ours or not apart from its input; touches nothing."""
    check_input(input, store.root)
    check_ours(store)


def make_plan(
    input: Input, store: Store, config: Config, options: RunOptions = DEFAULT, found: Found | None = None
) -> Plan:
    """Find out what there is to do; loads no engine and writes nothing. `found` is the input, if it was just listed.

    Of a shard that may have changed it reads the rows, of the others no texts but a sample. Raises CorpusError for an
    input that cannot be used, RecipeError for an output of another recipe and UsageError for a limit on an output
    that holds parts to replace.
    """
    check_place(input, store)
    found, there = found or find_files(input), contents_of(store)
    if found.left_out:
        note(f"left out {found.left_out}")
    root, shards = rebased(found.root, found.shards, there.roots)
    board().enter(READING, n_files=len(shards))
    bad: dict[str, str] = {}  # source of each file that `open_corpus` found nothing wrong with -> what is
    n_known = -1
    while n_known < len(bad):  # what is found too late to skip it is known the next time
        n_known = len(bad)
        plan, lines = _survey(root, shards, store, there, config, options, bad)
    _check_room(plan, store)
    for line in lines:
        note(line)
    return plan


def _survey(
    root: Path,
    shards: Sequence[Shard],
    store: Store,
    there: Contents,
    config: Config,
    options: RunOptions,
    bad: dict[str, str],
) -> tuple[Plan, list[str]]:
    """Return a plan without the `bad` files, and what there is to say about it; adds to `bad` what it finds."""
    skip = options.skip_bad_files
    look = partial(open_corpus, root, config=config.corpus, skip_bad_files=skip, known_bad=dict(bad))
    corpus = look(shards if config.corpus.kept else ())  # the type of a kept column depends on all shards
    inventory = take_inventory(store, there, config, corpus, options, shards)
    if not config.corpus.kept:
        is_open = _open_ones(shards, inventory)
        corpus = look([shard for shard in shards if shard.source in is_open])
    if len(corpus.skipped) == len(shards):
        raise CorpusError("; ".join(corpus.skipped.values()) + ". Mend these: there is no other file")
    inventory = inventory.settled(_unchanged(corpus, inventory, store), corpus.skipped)
    if options.keep_missing:
        _check_names(inventory, shards, root)
    kinds: Kinds = {name: set() for name in config.corpus.kept}
    found_bad = bad if skip else None
    plan = _plan(corpus, shards, config, inventory, options, kinds, found_bad)
    if config.corpus.kept:
        readable = {shard.source for shard in corpus.shards}
        kept = [receipt for receipt in plan.inventory.kept.values() if readable.intersection(receipt.sources)]
        for receipt in kept:
            for name, of_rows in receipt.kinds.items():
                kinds[name].update(of_rows)
        corpus = settle(corpus, kinds)
        settings = column_settings(config, corpus.columns.types)
        if all(receipt.column_settings == settings for receipt in kept):
            plan = replace(plan, corpus=replace(corpus, shards=plan.corpus.shards))
        else:  # their rows are cut again, and made with the types of now
            inventory = take_inventory(store, there, config, corpus, options, shards)
            inventory = inventory.settled(_unchanged(corpus, inventory, store), corpus.skipped)
            plan = _plan(corpus, shards, config, inventory, options, {}, found_bad)
    return plan, list(notices(corpus, kinds, config.corpus.keep)) if plan.chunks else []


def _plan(
    corpus: Corpus,
    shards: Sequence[Shard],
    config: Config,
    inventory: Inventory,
    options: RunOptions,
    kinds: Kinds,
    bad: dict[str, str] | None,
) -> Plan:
    """Cut what an inventory lacks into chunks; see `plan_chunks` for `kinds` and `bad`."""
    is_open, limit = _open_ones(shards, inventory), options.limit
    corpus = replace(corpus, shards=tuple(shard for shard in corpus.shards if shard.source in is_open))
    if limit is not None and inventory.stale:
        raise UsageError(
            f"--limit {limit}: expected an output without parts to replace, found {inventory.stale[0].part}: "
            "its rows changed, left the input or take other types; run once without --limit"
        )
    measured = measure(corpus, corpus.shards, config, bad)
    speed = options.tokens_per_s or measured_speed(inventory.kept.values())
    size, density = chunk_size(config, measured, inventory.kept.values(), speed), measured.density
    salts = {each.shard: stale.checksum for stale in inventory.stale for each in stale.spans}
    made = partial(plan_chunks, corpus, inventory.done(), density, config, size, limit=limit, salts=salts, kinds=kinds)
    plan = Plan(
        shards=tuple(shards),
        corpus=corpus,
        inventory=inventory,
        measured=measured,
        chunks=(),
        options=options,
    )
    if not _is_long(plan, config):
        return replace(plan, chunks=tuple(made(bad=bad)))
    found_bad: dict[str, str] = {}
    rest = made(bad=found_bad)
    n_rows = min(round(plan.measured.rows), sys.maxsize if limit is None else limit)
    tokens = plan.measured.tokens * n_rows / max(1.0, plan.measured.rows)
    return replace(
        plan,
        chunks=tuple(islice(rest, 1)),
        rest=rest,
        n_rest_rows=n_rows,
        n_rest_chunks=round(max(n_rows / size.rows, tokens / size.tokens)),
        rest_tokens=tokens,
        bad=found_bad,
    )


def _check_room(plan: Plan, store: Store) -> None:
    """Raise UsageError where an output would have more parts than its volume takes."""
    most, n_kept = store.volume.max_parts, len(plan.inventory.kept)
    n_chunks = max(len(plan.chunks), plan.n_rest_chunks)
    if most is not None and n_kept + n_chunks > most:
        raise UsageError(
            f"output {store.root}: expected at most {most:,} parts, as its volume takes no more, found {n_kept:,} and "
            f"{n_chunks:,} to come; let chunks follow the corpus (run.chunk_tokens = 0), or join the parts there are "
            "with `embed-corpus compact`"
        )


def _is_long(plan: Plan, config: Config) -> bool:
    """Whether the chunks of a corpus are to be found while it is embedded, and nothing has to know them all before."""
    inventory, options = plan.inventory, plan.options
    asks_first = config.corpus.kept or options.skip_bad_files or inventory.replaces or inventory.reusable(plan.shards)
    n_bytes = sum(shard.size_bytes for shard in plan.corpus.shards)
    return options.streams and n_bytes > STREAM_ABOVE_BYTES and not asks_first


def _check_names(inventory: Inventory, shards: Sequence[Shard], root: Path) -> None:
    """Raise UsageError for a shard that has the name of another file, whose rows are to be kept."""
    at_hand, here = {shard.source for shard in shards}, ("", root_key(root))
    for receipt in inventory.stale:
        is_other = receipt.fingerprint == inventory.dataset.fingerprint and receipt.root not in here
        for source in at_hand.intersection(receipt.sources) if is_other else ():
            raise UsageError(
                f"--keep-missing: expected files with names of their own, found {source}, and the output has rows of "
                "another file of this name; name a folder above both as --input"
            )


def _open_ones(shards: Sequence[Shard], inventory: Inventory) -> set[str]:
    done = inventory.done()
    return {shard.source for shard in shards if shard.source not in done or gaps(done[shard.source])}


def _unchanged(corpus: Corpus, inventory: Inventory, store: Store) -> set[str]:
    """Return the unconfirmed parts that are unchanged; rows of skipped files are kept unread."""
    order = {shard.source: at for at, shard in enumerate(corpus.shards)}

    def place(receipt: Receipt) -> tuple[int, int]:
        known = (each for each in receipt.spans if each.source in order)
        return min(((order[each.source], each.span.row_start) for each in known), default=(-1, 0))

    with ChunkReader() as reader:
        return set(unchanged(corpus, sorted(inventory.unconfirmed, key=place), store, reader))
