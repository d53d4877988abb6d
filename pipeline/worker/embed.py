"""The worker: a chunk's whole life, from its rows to its receipt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.chunk import Chunk
from pipeline.config import Config
from pipeline.corpus import ChunkReader, ChunkRows, Columns, root_key
from pipeline.dataset import Receipt, Store, load_prefilled
from pipeline.engines import Engine, EngineThread
from pipeline.errors import BrokenEngineError, CorpusError, EngineError
from pipeline.model import OnLong
from pipeline.recipe import column_settings, fingerprint, recipe
from pipeline.schema import content_hashes
from pipeline.worker.memory import Claim, Memory
from pipeline.worker.passages import find_passages, passages_of
from pipeline.worker.table import part_table, rejects_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all chunks of a run have in common."""

    root: Path  # of the input
    columns: Columns
    config: Config
    staged: bool = False  # whether parts wait for the swap instead of joining the dataset at once
    n_rows: int = 0  # that the run embeds, about
    began_at: float = 0.0  # in seconds since the epoch; tells a run from others with the same recipe and output


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A chunk that did not finish, and why; the next run makes it."""

    chunk: str
    source: str
    error: str
    deaths: int = 0  # how often it took its process along; 0 for one that failed without


def failure(chunk: Chunk, error: CorpusError | EngineError) -> Failure:
    """Return that a chunk did not finish; its source is the shard that could not be read, if it was one."""
    source = (isinstance(error, CorpusError) and error.source) or chunk.source
    return Failure(chunk=chunk.id, source=source, error=str(error))


def place_of(job: Job, store: Store) -> Store:
    """Return where the parts of a job are published: in the output, or where they wait for the swap."""
    return _staging(job, store) if job.staged else store


def _staging(job: Job, store: Store) -> Store:
    return store.staging(fingerprint(recipe(job.config)))


def embed_chunk(chunk: Chunk, job: Job, engine: Engine, store: Store, reader: ChunkReader, memory: Memory) -> Receipt:
    """Read, tokenise, embed and publish a chunk. Equal texts are embedded once; each row keeps its own entry.

    A part that is already there, because only its receipt was lost on the way, is left as it is. A row of which the
    engine refuses a passage is rejected.
    Raises CorpusError when the shard has changed and EngineError when the engine fails; nothing is published then.
    """
    place = place_of(job, store)
    if (found := place.republish(chunk.part_name)) is not None:
        return found
    rows = reader.read(job.root, job.columns, chunk.spans)
    known = load_prefilled(_staging(job, store), chunk.ready) if chunk.ready else None
    run = (place.root, fingerprint(recipe(job.config)), job.began_at)
    with memory.claiming(run) as claim:
        return embed_rows(chunk, rows, known, job, engine, place, claim)


def embed_rows(
    chunk: Chunk, rows: ChunkRows, known: pa.Table | None, job: Job, engine: Engine, place: Store, claim: Claim
) -> Receipt:
    """Tokenise and embed the texts of a chunk that are not among the `known` passages, and publish its part.

    Texts that other chunks of the run claimed earlier are taken from their parts.

    Four numberings, each from 0; an array `x_of_y` gives for each y the number of its x:
    row      a row of the chunk that can be embedded, in the order of `rows`
    text     a distinct text of these rows, in the order of its first row
    passage  a passage of these texts: the new ones, then those reused, then those of other chunks
    entry    a line of the part: a row's passages one after the other, in the order of the rows
    """
    config, n_rows = job.config, rows.n_rows
    hashes = content_hashes(rows.text)
    first_row, text_of_row = _distinct(hashes)  # (n_texts,) and (n_rows,)
    texts = {hashes[row]: rows.text[row] for row in first_row}
    found = find_passages(texts, known, claim, config, engine, place.volume.writing)
    for row, text in enumerate(text_of_row) if found.why_not else ():
        if text in found.why_not:
            why = replace(found.why_not[text], text=rows.text[row])
            rows.rejects.append((rows.source[row], rows.row[row], rows.id[row], why))
    text_of_passage, number = found.columns.column("text").to_numpy(), found.columns.column("passage").to_numpy()
    n_passages = np.bincount(text_of_passage, minlength=len(first_row))  # (n_texts,)
    row_of_entry, passage_of_entry = _spread(text_of_row, n_passages, without=list(found.why_not))
    passage_of_entry = np.lexsort((number, text_of_passage))[passage_of_entry]  # from the order of texts to their own
    table = part_table(
        rows, hashes, found.columns, row_of_entry, passage_of_entry, found.vectors, has_text=config.corpus.store_text
    )
    lost = np.zeros(len(first_row), np.int64)  # (n_texts,)
    lost[list(found.lost)] = list(found.lost.values())
    receipt = Receipt(
        chunk=chunk.id,
        part=chunk.part_name,
        has_rejects=bool(rows.rejects),
        fingerprint=fingerprint(recipe(config)),
        spans=chunk.spans,
        input_rows=n_rows,
        embedded_rows=n_rows - len(rows.rejects),
        rejected_rows=len(rows.rejects),
        reasons=dict(sorted(Counter(why.reason for *_, why in rows.rejects).items())),
        passages=len(table),
        truncated=int(np.count_nonzero(table.column("truncated"))),
        lost_tokens=int(lost[text_of_row].sum()),
        tokens=int(np.sum(table.column("n_tokens"), dtype=np.int64)),
        column_settings=column_settings(config, job.columns.types),
        has_text=config.corpus.store_text,
        kinds={name: sorted(found) for name, found in rows.kinds.items()},
        root=root_key(job.root),
        reused_rows=int(np.count_nonzero(found.is_known[text_of_row])),
        engine_calls=found.calls,
        engine_texts=found.n_embedded,
        engine_tokens=found.n_tokens,
        engine_s=round(found.seconds, 3),
        **_origin(engine),
    )
    receipt = place.publish(receipt, table, rejects_table(rows.in_order()), json.dumps(recipe(config)))
    claim.publish(place.data_path(receipt.part), table)
    return receipt


def _origin(engine: Engine) -> dict[str, Any]:
    return {"engine_ready_at": engine.ready_at, **asdict(engine.made_by)}


def are_rejected(texts: Sequence[str], config: Config) -> bool:
    """Whether every one of the texts would be rejected before an engine has it: too long, or without a token.

    Nothing is tokenised behind the first text that would not.
    """
    policy: OnLong = "reject" if config.corpus.on_long == "reject" else "truncate"
    return not any(passages_of([text], config, on_long=policy).text for text in texts)


def embed_or_fail(
    chunk: Chunk, job: Job, engine: Engine, store: Store, reader: ChunkReader, memory: Memory
) -> Receipt | Failure:
    """Embed and publish a chunk, or say why that is not possible; raises BrokenEngineError alone."""
    try:
        return embed_chunk(chunk, job, engine, store, reader, memory)
    except BrokenEngineError:
        raise
    except (CorpusError, EngineError) as error:
        return failure(chunk, error)


def embed_texts(texts: Sequence[str], config: Config, engine: EngineThread) -> NDArray[np.float16]:
    """Return one vector a text as a dataset would hold it, shape (n, dim).

    What is too long is truncated, and a text without a token has the vector of the special tokens alone. Raises
    EngineError when the engine refuses one.
    """
    passages = passages_of(texts, config, on_long="truncate", keep_empty=True)
    embedded = engine.embed(passages.ids, config.dim, checked=False)
    for why in embedded.refused.values():
        raise EngineError(f"engine: {len(embedded.refused)} of {len(texts)} texts were not embedded: {why}")
    return embedded.vectors


def _distinct(hashes: Sequence[bytes]) -> tuple[list[int], NDArray[np.int64]]:
    """Number the distinct texts by their hashes.

    Returns `first`, n_texts long: the first row of each text; and `text_of_row`, shape (n_rows,): the text of each row.
    """
    of_row = pa.array(hashes, pa.binary(16)).dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.unique(of_row, return_index=True)[1]
    return first.tolist(), of_row


def _spread(
    text_of_row: NDArray[np.int64], n_passages: NDArray[np.int64], *, without: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row and the passage of each entry, both of shape (n_entries,).

    `n_passages`, shape (n_texts,), counts the passages of each text; here they are numbered in the order of the texts.
    The texts `without` have no entries.
    """
    counts = np.where(np.isin(text_of_row, without), 0, n_passages[text_of_row])
    row_starts, text_starts = np.cumsum(counts) - counts, np.cumsum(n_passages) - n_passages
    row_of_entry = np.repeat(np.arange(len(counts)), counts)
    within_row = np.arange(len(row_of_entry)) - row_starts[row_of_entry]
    return row_of_entry, within_row + text_starts[text_of_row[row_of_entry]]
