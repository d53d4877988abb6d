"""The passages of a chunk's texts: embedded, or taken from a part that has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.corpus import Reject
from pipeline.engines import Embedded, Engine
from pipeline.model import OnLong, Passages, Tokenizer, make_passages, make_tokenizer
from pipeline.schema import content_hashes
from pipeline.vectors import to_numpy
from pipeline.worker.memory import Claim
from pipeline.worker.table import PASSAGES, passage_table

NO_TOKEN = Reject(reason="empty_text", detail="the tokenizer leaves no token but special ones")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The passages of distinct texts, and what the engine had to do for them."""

    columns: pa.Table  # PASSAGES
    vectors: NDArray[np.float16]  # (n_passages, dim)
    why_not: Mapping[int, Reject]  # by text: those that have no passages
    lost: Mapping[int, int]  # by text: tokens of those that were truncated
    is_known: NDArray[np.bool_]  # (n_texts,): whether an older part had them
    n_embedded: int  # passages
    n_tokens: int  # of all passages that the engine had, the refused ones too
    calls: int
    seconds: float


def find_passages(
    texts: Mapping[bytes, str],
    known: pa.Table | None,
    claim: Claim,
    config: Config,
    engine: Engine,
    closed: AbstractContextManager[object],
) -> Found:
    """Find the passages of distinct texts, given by their content hashes and numbered in this order.

    They are among the `known` ones, or in a part of another chunk of the run, or the engine makes them. Files are open
    in the context `closed` alone.
    """
    hashes = list(texts)
    embed = partial(_embed, list(texts.values()), known, config, engine)
    reused, reused_vectors = _passages_in(known, hashes, np.arange(len(hashes)), config.dim)
    is_known = np.isin(np.arange(len(texts)), reused.column("text").to_numpy())
    missing = np.flatnonzero(~is_known)
    is_new = claim.claim([hashes[text] for text in missing.tolist()])
    made = [embed(missing[is_new])]
    others = missing[~is_new]
    recalled, recalled_vectors = _passages_in(claim.recall(closed), hashes, others, config.dim)
    if len(lost := np.setdiff1d(others, recalled.column("text").to_numpy())):
        made.append(embed(lost))
    return Found(
        columns=pa.concat_tables([*(each.columns for each in made), reused, recalled]),
        vectors=_joined([*(each.embedded.vectors for each in made), reused_vectors, recalled_vectors]),
        why_not={text: why for each in made for text, why in each.why_not.items()},
        is_known=is_known,
        lost={text: n for each in made for text, n in each.lost.items()}
        | _lost_of(pa.concat_tables([reused, recalled]), list(texts.values()), config),
        n_embedded=sum(each.n_embedded for each in made),
        n_tokens=sum(each.n_tokens for each in made),
        calls=sum(each.embedded.calls for each in made),
        seconds=sum(each.embedded.seconds for each in made),
    )


def _joined(blocks: Sequence[NDArray[np.float16]]) -> NDArray[np.float16]:
    """Return vectors one block after the other; those of a chunk may be hundreds of megabytes, so one is not copied."""
    some = [block for block in blocks if len(block)] or blocks[:1]
    return np.concatenate(some) if len(some) > 1 else some[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What an engine made of some texts."""

    columns: pa.Table  # PASSAGES
    embedded: Embedded  # with the vectors of all, those that were known too
    why_not: dict[int, Reject]  # by text
    lost: dict[int, int]  # by text
    n_embedded: int  # passages
    n_tokens: int


def _embed(
    texts: Sequence[str], known: pa.Table | None, config: Config, engine: Engine, numbers: NDArray[np.int64]
) -> _Made:
    """Tokenise and embed those of the texts that have these numbers, but for pieces that are `known` texts."""
    new = numbers.tolist()
    passages = passages_of([texts[text] for text in new], config)
    at = np.full(len(passages.ids), -1)
    if known is not None and config.corpus.on_long == "split":
        hashes = content_hashes(pieces_in(passages, [texts[text] for text in new]))
        at = pc.fill_null(pc.index_in(pa.array(hashes, pa.binary(16)), known.column("content_hash")), -1).to_numpy()
    missing = np.flatnonzero(at < 0)
    is_all = len(missing) == len(passages.ids)
    ids = passages.ids if is_all else [passages.ids[passage] for passage in missing.tolist()]
    nothing = Embedded(vectors=np.empty((0, config.dim), np.float16))  # for this no chunk waits for the engine's turn
    embedded = engine.embed(ids, config.dim) if ids else nothing
    if known is not None and not is_all:
        vectors = np.empty((len(passages.ids), config.dim), np.float16)
        vectors[missing] = embedded.vectors
        vectors[at >= 0] = to_numpy(known.column("embedding").take(pa.array(at[at >= 0])))
        refused = {int(missing[passage]): why for passage, why in embedded.refused.items()}
        embedded = replace(embedded, vectors=vectors, refused=refused)
    return _Made(
        columns=passage_table(passages, new),
        embedded=embedded,
        why_not=_rejects(passages, new, embedded, config.model.max_tokens),
        lost={new[text]: n for text, n in zip(passages.text, passages.lost, strict=True) if n},
        n_embedded=len(ids) - len(embedded.refused),
        n_tokens=sum(map(len, ids)),
    )


def piece_hashes(texts: Sequence[str], config: Config) -> list[list[bytes]]:
    """Return of each text the hashes of its passages, each as if it were a text of its own."""
    passages = passages_of(texts, config)
    hashes: list[list[bytes]] = [[] for _ in texts]
    for text, digest in zip(passages.text, content_hashes(pieces_in(passages, texts)), strict=True):
        hashes[text].append(digest)
    return hashes


def pieces_in(passages: Passages, texts: Sequence[str]) -> list[str]:
    """Return the text of each passage."""
    places = zip(passages.text, passages.start, passages.stop, strict=True)
    return [texts[text][start:stop] for text, start, stop in places]


def _lost_of(passages: pa.Table, texts: Sequence[str], config: Config) -> dict[int, int]:
    """Return by text how many tokens those passages have lost that were made before, when nobody may have counted."""
    numbers = passages.filter(passages.column("truncated")).column("text").unique().to_pylist()
    made = passages_of([texts[text] for text in numbers], config)
    return {numbers[text]: n for text, n in zip(made.text, made.lost, strict=True) if n}


def _passages_in(
    table: pa.Table | None, hashes: Sequence[bytes], numbers: NDArray[np.int64], dim: int
) -> tuple[pa.Table, NDArray[np.float16]]:
    """Return the passages that a table has of the texts with these numbers, and their vectors."""
    if table is None:
        return PASSAGES.empty_table(), np.empty((0, dim), np.float16)
    wanted = pa.array([hashes[text] for text in numbers.tolist()], pa.binary(16))
    at = pc.index_in(table.column("content_hash"), value_set=wanted)
    table = table.append_column("text", pa.array(numbers, pa.int64()).take(at)).filter(pc.is_valid(at))
    return table.select(PASSAGES.names), to_numpy(table.column("embedding"))


def _rejects(passages: Passages, texts: Sequence[int], embedded: Embedded, max_tokens: int) -> dict[int, Reject]:
    """Return why texts are not embedded; `texts` gives the number of each text by its number in `passages`."""
    too_long = Reject(reason="too_long", detail=f"over {max_tokens} tokens")
    why_not = {texts[text]: too_long for text in passages.too_long}
    why_not |= {texts[text]: NO_TOKEN for text in passages.empty}
    for passage, why in embedded.refused.items():
        why_not[texts[passages.text[passage]]] = Reject(reason="engine_error", detail=why)
    return why_not


def passages_of(
    texts: Sequence[str], config: Config, *, on_long: OnLong | None = None, keep_empty: bool = False
) -> Passages:
    """Return the passages of texts as a config has them, or with another policy for those that are too long."""
    return make_passages(
        texts,
        tokenizer_of(config),
        prompt=config.model.document_prompt,
        on_long=on_long or config.corpus.on_long,
        overlap=config.corpus.overlap,
        keep_empty=keep_empty,
    )


@lru_cache(maxsize=2)
def tokenizer_of(config: Config) -> Tokenizer:
    """Return the tokenizer of a config's texts."""
    return make_tokenizer(config, max_tokens=config.model.max_tokens)
