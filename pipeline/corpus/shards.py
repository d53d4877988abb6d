"""The corpus: which shards an input has, and the rows of a chunk."""

from __future__ import annotations

import glob
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from pipeline.chunk import Shard
from pipeline.config import CorpusConfig
from pipeline.corpus.reader import READERS, Reader, reader_of, shard_at
from pipeline.corpus.rows import Columns, text_columns
from pipeline.errors import CorpusError


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The shards below an input, in the order of their names, and the columns read from them."""

    root: Path
    shards: tuple[Shard, ...]
    columns: Columns
    skipped: Mapping[str, str] = field(default_factory=dict)  # source of each unusable file -> why
    names: tuple[str, ...] = ()  # of all columns that the shards have, as far as was looked
    types: Mapping[str, Set[pa.DataType]] = field(default_factory=dict)  # kept column -> its types in files that tell

    def reader(self, shard: Shard) -> Reader:
        """Return the reader of a shard, which the caller closes."""
        return reader_of(self.root, shard.source)


def find_shards(input: str, *, exclude: Path | None = None) -> tuple[Path, list[Shard]]:
    """Return the root and the shards of a file, a folder (recursive) or a glob.

    Hidden and temporary files (names starting with `.` or `_`) and the folder `exclude` are left out.
    Raises CorpusError when nothing is left, for a folder that cannot be listed and for a name that is not Unicode.
    """
    try:
        root, found = _list(input)
        paths = list(found)
        exclude = _real(exclude) if exclude else None
    except (OSError, ValueError) as error:
        raise CorpusError(f"input {input!r}: expected files and folders that can be listed, found: {error}") from error
    shards, endings = [], tuple(READERS)
    for path in paths:
        below = path.relative_to(root)
        hidden = any(name.startswith((".", "_")) for name in below.parts)
        if hidden or not path.name.lower().endswith(endings) or (exclude and _real(path).is_relative_to(exclude)):
            continue
        if not _is_unicode(below.as_posix()):
            raise CorpusError(f"input {input}: expected file names in UTF-8, found {below.as_posix()!r}; rename it")
        no_file = Shard(source=below.as_posix(), size_bytes=0, mtime_ns=0)  # open_corpus refuses it by its name
        shards.append(no_file if _why_no_file(path) else shard_at(root, below.as_posix()))
    if not shards and not glob.has_magic(input) and not Path(input).exists():
        raise CorpusError(f"input {input}: expected a file, a folder or a glob, found no such file or folder")
    if not shards:
        raise CorpusError(f"input {input}: expected files ending in {', '.join(READERS)}; found none")
    return root, sorted(shards, key=lambda shard: shard.source)


def open_corpus(root: Path, shards: Sequence[Shard], config: CorpusConfig, *, skip_bad_files: bool = False) -> Corpus:
    """Look at the columns of every shard; `settle` gives the kept ones their types.

    Raises CorpusError naming each file that cannot be read or lacks a column, unless those are to be skipped.
    """
    text, template = text_columns(config.text)
    columns = Columns(text=text, template=template, id=config.id or "id", keep=config.keep)
    needed = (*text, *([config.id] if config.id else []))
    names: dict[str, None] = {}
    types: dict[str, set[pa.DataType]] = defaultdict(set)
    usable: list[Shard] = []
    bad: dict[str, str] = {}
    for shard in shards:
        path = root / shard.source
        try:
            if why := _why_no_file(path):
                raise CorpusError(f"{path}: expected a file, found: {why}")
            found = reader_of(root, shard.source).column_types(columns, needed)
        except CorpusError as error:
            bad[shard.source] = str(error)
            continue
        usable.append(shard)
        names |= dict.fromkeys(found)
        for name in columns.keep:
            if kind := found.get(name):
                types[name].add(kind)
    if bad and not skip_bad_files:
        raise CorpusError("; ".join(bad.values()) + ". Mend these, set corpus.text, or try --skip-bad-files")
    return Corpus(root=root, shards=tuple(usable), columns=columns, skipped=bad, names=tuple(names), types=types)


def _list(input: str) -> tuple[Path, Iterable[Path]]:
    path = Path(input)
    if path.is_dir():
        return path, _walk(path)
    if path.exists() or path.is_symlink():
        return path.parent, [path]
    fixed = path.parts[: next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))]
    names = set(glob.glob(input, recursive=True))  # noqa: PTH207  takes absolute patterns too
    return Path(*fixed), [found for name in names if not (found := Path(name)).is_dir()]


def _walk(root: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in seen:  # a symbolic link back up
            subfolders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        yield from (Path(folder, name) for name in names)


def _why_no_file(path: Path) -> str:
    try:
        return "" if stat.S_ISREG(path.stat().st_mode) else "a pipe or a device"
    except OSError as error:  # such as a link to nothing
        return error.strerror or str(error)


def _raise(error: OSError) -> None:
    raise error


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve gives up on a link to itself


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
