"""Kept columns: the one type that each has in all parts of a corpus, and what is said of the columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

import pyarrow as pa

from pipeline.corpus.rows import no_column
from pipeline.corpus.shards import Corpus
from pipeline.corpus.tabular.types import unified_type
from pipeline.corpus.textual.record import Kinds, types_of
from pipeline.schema import kept_name

MAX_NAMES = 10
WORDS = {
    "boolean": "booleans",
    "integer": "integers",
    "long": "integers over 2**53",
    "real": "reals",
    "string": "strings",
    "other": "lists, objects or numbers beyond int64 and double",
}


def settle(corpus: Corpus, kinds: Kinds) -> Corpus:
    """Return a corpus whose kept columns have one type, which holds every value as it is, or else are text.

    `kinds` says what the lines of the corpus have. Raises CorpusError for a column that no line and no file has.
    """
    missing = [name for name, found in kinds.items() if not found and name not in corpus.names]
    if missing and corpus.names:
        raise no_column(f"{corpus.root}: corpus.keep", missing[0], corpus.names)
    types = {
        kept_name(name): corpus.columns.declared.get(name) or _one_type(corpus.types.get(name, frozenset()), found)
        for name, found in kinds.items()
    }
    return replace(corpus, columns=corpus.columns.typed({name: kind or pa.string() for name, kind in types.items()}))


def notices(corpus: Corpus, kinds: Kinds, asked: Sequence[str]) -> Iterator[str]:
    """Yield a line for what a reader of the dataset might miss of the columns that were `asked` to be kept, and of
    others: columns left out, renamed, or kept as text."""
    columns = corpus.columns
    read = [name for name in (*columns.text, columns.id, *columns.keep) if name]
    used = {*read, *(name.partition(".")[0] for name in read)}
    if out := [name for name in corpus.names if name not in used]:
        yield f"columns left out: {_listed(out)} (corpus.keep keeps them)"
    for name in asked:
        if name not in columns.keep:
            yield (
                f"corpus.keep: column {name} is there as what was embedded of it; corpus.store_text=false keeps it "
                f"whole, as {kept_name(name)}"
            )
    for name, found in kinds.items():
        if kept_name(name) != name:
            yield f"corpus.keep: column {name} is stored as {kept_name(name)}, as parts have a {name} of their own"
        types = corpus.types.get(name, frozenset())
        if name not in columns.declared and _one_type(types, found) is None:
            held = _listed([*sorted(map(str, types)), *(WORDS[kind] for kind in WORDS if kind in found)])
            yield f"corpus.keep: column {name} is stored as text, as no type holds all of: {held}"


def _one_type(types: Set[pa.DataType], kinds: Set[str]) -> pa.DataType | None:
    """Return the type for Arrow types and kinds of JSON values; None where only text holds them all."""
    found = next((kind for each in types_of(kinds) if (kind := unified_type([*types, each])) is not None), None)
    return pa.string() if found == pa.null() and not types else found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
