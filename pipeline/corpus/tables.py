"""Tables: folders of Parquet whose rows are settled by a log beside the files, which must not be read without it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline.errors import CorpusError

DELTA, HUDI, ICEBERG = "_delta_log", ".hoodie", "metadata"
MARKS = {DELTA, HUDI, ICEBERG}
ICEBERG_FILE = re.compile(r"(v\d+|\d+-[0-9a-fA-F-]{32,36})(\.gz)?\.metadata\.json(\.gz)?|version-hint\.text")
EXPORT = {
    DELTA: "duckdb -c \"install delta; load delta; copy (from delta_scan('{table}')) to '{rows}'\"",
    ICEBERG: "duckdb -c \"install iceberg; load iceberg; copy (from iceberg_scan('{table}')) to '{rows}'\"",
    HUDI: "spark.read.format('hudi').load('{table}').write.parquet('{rows}')",
}
NAMES = {DELTA: "a Delta table", ICEBERG: "an Iceberg table", HUDI: "a Hudi table"}


def refuse_table(folder: Path, names: Collection[str] = MARKS) -> None:
    """Raise CorpusError for a folder that is a table of Delta Lake, Iceberg or Hudi.

    `names` are those of what is in the folder, where they are known.
    """
    mark = next((mark for mark in (DELTA, HUDI, ICEBERG) if mark in names and _has(folder, mark)), None)
    if mark is None:
        return
    table = folder.resolve()
    command = EXPORT[mark].format(table=table, rows=table.with_name(f"{table.name}.parquet"))
    raise CorpusError(
        f"input {folder}: expected files of rows, found {NAMES[mark]} ({mark}/): its files also hold rows that were "
        f"deleted or replaced; export the rows of now, as by `{command}`, and name what comes out"
    )


def refuse_inside_tables(folders: Iterable[Path]) -> None:
    """Raise CorpusError where a folder is a table or inside one."""
    real = {folder.resolve() for folder in folders}
    for each in sorted({above for folder in real for above in (folder, *folder.parents)}):
        refuse_table(each)


def _has(folder: Path, mark: str) -> bool:
    if mark != ICEBERG:
        return (folder / mark).is_dir()
    try:
        return any(ICEBERG_FILE.fullmatch(path.name) for path in (folder / mark).iterdir())
    except OSError:  # not there, no folder, or closed: no table that could be read
        return False
