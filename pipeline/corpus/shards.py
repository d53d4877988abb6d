"""The corpus: which shards an input has, and the rows of a chunk."""

from __future__ import annotations

import contextlib
import glob
import stat
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from pipeline.chunk import Shard
from pipeline.config import CorpusConfig
from pipeline.corpus.documents import SUFFIXES as DOCUMENTS
from pipeline.corpus.hub import fetched
from pipeline.corpus.inputs import Input, each_of, in_words, joined
from pipeline.corpus.listing import Listing, describe_left_out, ending, list_input
from pipeline.corpus.reader import READERS, Reader, endings, is_shard, kinds_apart, reader_at, reader_of, shard_of
from pipeline.corpus.rows import Columns
from pipeline.corpus.sniff.misnamed import misnamed
from pipeline.corpus.texts import text_columns
from pipeline.errors import CorpusError, advised

OF_ZONES = {
    str(kind): kind for kind in (pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC"))
}  # by names without alias
SHOWN_FILES = 3  # of those with which the same is wrong


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an input is."""

    root: Path
    shards: list[Shard]
    left_out: str  # which files of other kinds are there, in words; nothing where there are none


def find_shards(input: Input) -> tuple[Path, list[Shard]]:
    """Return the root and the shards of an input, as `find_files` does."""
    found = find_files(input)
    return found.root, found.shards


def find_files(input: Input) -> Found:
    """Return the shards of a file, a folder (recursive), a glob or an address of the hub, and what else is there.

    Several of them are one input: its root is the folder that they have in common.

    Hidden and temporary files (names starting with `.` or `_`) are left out unless they are named outright, and so are
    documents beside files of rows, which they mostly describe.
    Raises CorpusError when nothing is left, for a folder that cannot be listed, for a name that is not Unicode and for
    a table whose rows are settled by a log.
    """
    listing = joined([_listed(each) for each in each_of(input)])
    shards = []
    for name in listing.places:
        if not _is_unicode(name):
            raise CorpusError(f"input {in_words(input)}: expected file names in UTF-8, found {name!r}; rename it")
        shards.append(_shard(listing.root / name, name))
    return Found(root=listing.root, shards=shards, left_out=_left_out_in_words(listing.left_out))


def _listed(input: str) -> Listing:
    input = fetched(input, tuple(READERS))
    try:
        listing = list_input(input, is_shard)
    except (OSError, ValueError) as error:
        raise CorpusError(f"input {input!r}: expected files and folders that can be listed, found: {error}") from error
    names, documents = kinds_apart(tuple(listing.places))
    left_out = listing.left_out + Counter(map(ending, documents))
    if not names and not left_out and not glob.has_magic(input) and not Path(input).exists():
        raise CorpusError(f"input {input}: expected a file, a folder or a glob, found no such file or folder")
    if not names:
        found = f"found none, but {describe_left_out(left_out)}" if left_out else "found none"
        raise CorpusError(f"input {input}: expected files ending in {endings()}; {found}")
    return replace(listing, places={name: listing.places[name] for name in names}, left_out=left_out)


def open_corpus(
    root: Path,
    shards: Sequence[Shard],
    config: CorpusConfig,
    *,
    skip_bad_files: bool = False,
    known_bad: Mapping[str, str] = MappingProxyType({}),
) -> Corpus:
    """Look at the columns of every shard; `settle` gives the kept ones their types.

    Raises CorpusError naming each file that cannot be read or lacks a column, unless those are to be skipped: then
    their first rows are read too. `known_bad` gives files to skip, by source, each with why.
    """
    text, template = text_columns(config.text)
    declared = {name: OF_ZONES.get(kind) or pa.type_for_alias(kind) for name, kind in config.types.items()}
    columns = Columns(text=text, template=template, id=config.id or "id", keep=config.kept, declared=declared)
    needed = (*text, *([config.id] if config.id else []))
    names: dict[str, None] = {}
    types: dict[str, set[pa.DataType]] = defaultdict(set)
    usable: list[Shard] = []
    bad: dict[str, str] = {}
    missing: set[str] = set()  # columns that files lack
    for shard in shards:
        path = root / shard.source
        reader = reader_at(path, shard.source)
        if shard.source in known_bad:
            bad[shard.source] = known_bad[shard.source]
            continue
        try:
            if why := _why_no_file(path):
                raise CorpusError(f"{path}: expected a file, found: {why}")
            found = reader.column_types(columns, needed)
            if skip_bad_files:
                reader.head(replace(columns, keep=()))
        except CorpusError as error:
            why_bad = misnamed(path) or error
            bad[shard.source] = str(why_bad)
            missing.add(why_bad.column)
            continue
        usable.append(shard)
        names |= dict.fromkeys(found)
        for name in columns.keep:
            if kind := found.get(name):
                types[name].add(kind)
    if bad and not skip_bad_files:
        raise CorpusError(_with_advice(_by_complaint(root, bad), columns, missing))
    return Corpus(root=root, shards=tuple(usable), columns=columns, skipped=bad, names=tuple(names), types=types)


def _by_complaint(root: Path, bad: Mapping[str, str]) -> str:
    """Return what is wrong with files; what is the same of more than SHOWN_FILES once, with so many of their names."""
    files: dict[str, list[str]] = defaultdict(list)
    for source, why in bad.items():
        path = str(root / source)
        files[why.removeprefix(path)].append(path)
    found: list[str] = []
    for why, paths in files.items():
        if (n_more := len(paths) - SHOWN_FILES) > 0:
            found.append(f"{', '.join(paths[:SHOWN_FILES])} and {n_more:,} more{why}")
        else:
            found += [path + why for path in paths]
    return "; ".join(found)


def _with_advice(found: str, columns: Columns, missing: Set[str]) -> str:
    """Return what is wrong with files, and what to do: the keys that name the columns which they lack."""
    named_by = {"corpus.text": columns.text, "corpus.id": (columns.id,), "corpus.keep": columns.keep}
    keys = [f"set {key}" for key, names in named_by.items() if missing & {*names}]
    return advised(found, ", ".join(["Mend these", *keys, "or try --skip-bad-files"]))


def _left_out_in_words(left_out: Counter[str]) -> str:
    """Return what is left out of files of other kinds, and of documents beside files of rows with how to embed them."""
    documents = Counter({kind: left_out[kind] for kind in DOCUMENTS if kind in left_out})
    others = describe_left_out(left_out - documents)
    if not documents:
        return others
    n_files, kinds = documents.total(), [*documents]
    files = "1 document" if n_files == 1 else f"{n_files:,} documents"
    found = (
        f"{files} ({', '.join(kinds)}), as other files here have rows; to embed documents too, name them as an input "
        f"of their own, as by --input FOLDER 'FOLDER/**/*{kinds[0]}'"
    )
    return f"{others}; {found}" if others else found


def _shard(path: Path, name: str) -> Shard:
    with contextlib.suppress(OSError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            return shard_of(name, found)
    return Shard(source=name, size_bytes=0, mtime_ns=0)  # open_corpus refuses it by its name


def _why_no_file(path: Path) -> str:
    try:
        return "" if stat.S_ISREG(path.stat().st_mode) else "a pipe or a device"
    except OSError as error:  # such as a link to nothing
        return error.strerror or str(error)


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
