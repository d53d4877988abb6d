"""Rows of a chunk: what the readers hand to the worker, the rejected ones apart and with a reason."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pyarrow as pa

from pipeline.errors import CorpusError
from pipeline.schema import Reason, kept_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which columns of a shard are read; a dotted name is a path into structs unless a column has that very name."""

    text: tuple[str, ...]
    template: str | None  # how the text columns become one text; None when there is just one
    id: str | None
    keep: tuple[str, ...] = ()
    declared: Mapping[str, pa.DataType] = field(
        default_factory=dict, hash=False
    )  # kept column -> the type that was asked for
    schema: bytes = b""  # of the kept columns as parts have them, serialised; b"": each as its own shard has it

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The types of the kept columns as parts have them, by the names they have there."""
        schema = _schema(self.schema) if self.schema else pa.schema([])
        declared = {kept_name(name): kind for name, kind in self.declared.items()}
        return declared | dict(zip(schema.names, schema.types, strict=True))

    def typed(self, types: Mapping[str, pa.DataType]) -> Columns:
        """Return these columns with the types that parts have them in."""
        fields = [(name, types[name]) for name in map(kept_name, self.keep)]
        return replace(self, schema=pa.schema(fields).serialize().to_pybytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Why a value cannot be embedded; the reader adds its row."""

    reason: Reason
    detail: str
    text: str | None = None


@dataclass(slots=True, kw_only=True)
class Rows:
    """Columns over the rows of a chunk that can be embedded, and the rejected rest."""

    row: list[int] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    kept: pa.Table  # the kept columns, one row for each entry above
    rejects: list[tuple[int, str, Reject]] = field(default_factory=list)  # row, id, why
    kinds: dict[str, set[str]] = field(default_factory=dict)  # of JSON in each kept column; Parquet has none

    @property
    def n_rows(self) -> int:
        """Number of rows read, embeddable or not."""
        return len(self.row) + len(self.rejects)

    def add(self, numbers: Sequence[int], ids: Sequence[str], texts: Sequence[str | Reject]) -> list[int] | None:
        """Add rows that follow one another; return which of them have a text, None where all have."""
        taken = None
        if Reject in set(map(type, texts)):
            taken = [at for at, text in enumerate(texts) if not isinstance(text, Reject)]
            found = zip(numbers, ids, texts, strict=True)
            self.rejects += [(row, row_id, why) for row, row_id, why in found if isinstance(why, Reject)]
            numbers, ids, texts = [numbers[at] for at in taken], [ids[at] for at in taken], [texts[at] for at in taken]
        self.row += numbers
        self.id += ids
        self.text += cast("Sequence[str]", texts)
        return taken


@dataclass(slots=True, kw_only=True)
class ChunkRows:
    """The rows of all spans of a chunk, one after the other, like those of one."""

    sources: tuple[str, ...]  # of its shards, in their order, each once
    source: list[str] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    kept: pa.Table = field(default_factory=lambda: pa.table({}))
    rejects: list[tuple[str, int, str, Reject]] = field(default_factory=list)  # source, row, id, why
    kinds: dict[str, set[str]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of rows read, embeddable or not."""
        return len(self.row) + len(self.rejects)

    def add(self, source: str, rows: Rows) -> None:
        """Add the rows of the next span, without their kept columns, which are joined once."""
        self.source += [source] * len(rows.row)
        self.row += rows.row
        self.id += rows.id
        self.text += rows.text
        self.rejects += [(source, *reject) for reject in rows.rejects]
        for name, found in rows.kinds.items():
            self.kinds.setdefault(name, set()).update(found)

    def in_order(self) -> list[tuple[str, int, str, Reject]]:
        """Return the rejected rows in the order of the corpus."""
        order = {source: at for at, source in enumerate(self.sources)}
        return sorted(self.rejects, key=lambda reject: (order[reject[0]], reject[1]))


@functools.lru_cache(maxsize=4)
def _schema(serialised: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(serialised))


def ids_of_rows(own: Sequence[str | None], source: str, numbers: Iterable[int]) -> list[str]:
    """Return the id of each row: its own, or where it is."""
    if all(own):
        return list(cast("Sequence[str]", own))
    return [each or f"{source}:{row}" for each, row in zip(own, numbers, strict=True)]


def no_column(where: Path | str, name: str, names: Sequence[str]) -> CorpusError:
    """Return the error for a column that is not among these names, with the nearest of them."""
    alike = [each for each in names if each.casefold() == name.casefold()]
    near = (alike or difflib.get_close_matches(name, names, n=1, cutoff=0.5))[:1]
    meant = "".join(f"; did you mean {each!r}?" for each in near)
    error = CorpusError(f"{where}: expected column {name!r}, found {', '.join(names) or 'none'}{meant}")
    error.column = name
    return error
