"""A corpus in memory that can be edited and written, for the tests of re-embedding."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support import write_jsonl

Row = dict[str, str]
SCHEMA = pa.schema({"id": pa.string(), "text": pa.string()})


class Corpus:
    """Files of rows below a folder. Every write gives a file a date of its own, also within one tick of the clock."""

    def __init__(self, root: Path, files: Mapping[str, Sequence[Row]]) -> None:
        self.root = root
        self.files: dict[str, list[Row]] = {}
        self._ticks = 0
        for name, rows in files.items():
            self.write(name, rows)

    def write(self, name: str, rows: Sequence[Row]) -> None:
        self.files[name] = list(rows)
        path = self.root / name
        if name.endswith(".parquet"):
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), path, row_group_size=500)
        else:
            write_jsonl(path, rows)
        self.touch(name)

    def touch(self, name: str) -> None:
        self._ticks += 1
        os.utime(self.root / name, ns=(self._ticks * 10**9, self._ticks * 10**9))

    def touch_as_before(self, name: str) -> None:
        """Give a file the date of the last write."""
        os.utime(self.root / name, ns=(self._ticks * 10**9, self._ticks * 10**9))

    def delete(self, name: str) -> None:
        del self.files[name]
        (self.root / name).unlink()

    def rename(self, name: str, to: str) -> None:
        self.files[to] = self.files.pop(name)
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).rename(self.root / to)

    @property
    def rows(self) -> list[Row]:
        """All rows, file by file."""
        return [row for name in sorted(self.files) for row in self.files[name]]
