"""The listing of an input: the files that are its shards, each once and by one name, and those that are left out."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.corpus.tables import refuse_inside_tables, refuse_table

HIDDEN = (".", "_")
LEFT_BY_SYSTEMS = re.compile(r".*\.crc|thumbs\.db|desktop\.ini|lost\+found|\$recycle\.bin", re.IGNORECASE)
PACKED = re.compile(r"(\.[a-z][a-z0-9]{0,9})?\.(gz|zst|bz2|xz|lz4|br|snappy|zip)$", re.IGNORECASE)
SHOWN_ENDINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of an input."""

    root: Path
    places: Mapping[
        str, str
    ]  # by the name of each shard, below the root and in order: where the file is, without links
    left_out: Counter[str]  # ending -> files of other kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: str  # below the root
    place: str  # where it is, folders that are links resolved
    target: str  # what it is, itself resolved as well

    def rank(self, real_root: str) -> tuple[bool, str]:
        """Return what is least for the name of a file that is kept: the one without a link, else the first."""
        return self.place != _below(real_root, self.name), self.name


def list_input(input: str, is_shard: Callable[[str], bool]) -> Listing:
    """List a file, a folder (recursive) or a glob; hidden files are left out, unless they are named outright.

    A file that several folders lead to has the name without a link, else the first. A file that is a link is left out
    where its target is in the list, and else a file of its own; the cache of the Hugging Face hub has no other files.
    Raises OSError for a folder that cannot be listed and CorpusError for one that is a table with a log.
    """
    root, found = _entries(input)
    real_root = os.path.realpath(root)
    kept: dict[str, _Entry] = {}
    for entry in found:
        if is_shard(entry.name.lower()):
            kept[entry.place] = min(kept.get(entry.place, entry), entry, key=lambda each: each.rank(real_root))
    shown = [entry for entry in kept.values() if entry.target == entry.place or entry.target not in kept]
    places = {entry.name: entry.place for entry in sorted(shown, key=lambda each: each.name)}
    read = kept.keys() | {entry.target for entry in kept.values()}
    others = (entry.name for entry in found if entry.place not in read)
    left_out = Counter(ending(name) for name in others if not LEFT_BY_SYSTEMS.fullmatch(PurePosixPath(name).name))
    return Listing(root=root, places=places, left_out=left_out)


def ending(name: str) -> str:
    """Return the ending of a file's name, of a packed file with the one before."""
    path = PurePosixPath(name)
    packed = PACKED.search(path.name)
    return (packed[0] if packed else path.suffix).lower() or "without an ending"


def describe_left_out(left_out: Counter[str]) -> str:
    """Return how many files there are, and of which endings; nothing where there are none."""
    shown = sorted(left_out.items(), key=lambda each: (-each[1], each[0]))
    endings = [f"{count:,} {name}" for name, count in shown[:SHOWN_ENDINGS]]
    if n_others := sum(count for _, count in shown[SHOWN_ENDINGS:]):
        endings.append(f"{n_others:,} of other endings")
    n_files = left_out.total()
    files = "1 file of another kind" if n_files == 1 else f"{n_files:,} files of other kinds"
    return f"{files}: {', '.join(endings)}" if n_files else ""


def _entries(input: str) -> tuple[Path, list[_Entry]]:
    path = Path(input)
    if path.is_dir():
        return path, list(_walk(path))
    if path.exists() or path.is_symlink():
        return path.parent, [_entry(path, path.name)]
    n_fixed = next((at for at, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))
    root, pattern = Path(*path.parts[:n_fixed]), path.parts[n_fixed:]
    names = set(glob.glob(input, recursive=True))  # noqa: PTH207  takes absolute patterns too
    found = [(match, match.relative_to(root)) for name in names if not (match := Path(name)).is_dir()]
    found = [(match, below) for match, below in found if not _has_hidden(below.parts, pattern)]
    refuse_inside_tables({match.parent for match, _ in found})
    return root, [_entry(match, below.as_posix()) for match, below in found]


def _entry(path: Path, name: str) -> _Entry:
    return _Entry(name=name, place=_below(os.path.realpath(path.parent), path.name), target=os.path.realpath(path))


def _has_hidden(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path has a hidden name that its pattern does not spell out."""
    if "**" in pattern:
        first, n_after = pattern.index("**"), pattern[::-1].index("**")
        anything = [""] * (len(parts) - first - n_after)
        pattern = [*pattern[:first], *anything, *pattern[len(pattern) - n_after :]]
    return any(name.startswith(HIDDEN) and name != wanted for name, wanted in zip(parts, pattern, strict=False))


def _walk(root: Path) -> Iterator[_Entry]:
    """Yield the files below a folder: the real folders first, then those behind links, in the order of their names.

    So no folder comes twice, and its name does not depend on the order in which a disk lists it.
    """
    seen: set[str] = set()
    starts = [("", os.path.realpath(root))]
    while starts:
        refuse_inside_tables({Path(real) for _, real in starts})
        links: list[tuple[str, str]] = []
        for start in starts:
            todo = [start]
            while todo:
                below, real = todo.pop()
                if real in seen:
                    continue
                seen.add(real)
                with os.scandir(root / below) as listing:
                    entries = list(listing)
                refuse_table(root / below, {entry.name for entry in entries})
                for entry in entries:
                    if entry.name.startswith(HIDDEN):
                        continue
                    is_link = entry.is_symlink()
                    place = _below(real, entry.name)
                    to = os.path.realpath(entry.path) if is_link else place
                    if _is_folder(entry):
                        (links if is_link else todo).append((f"{below}{entry.name}/", to))
                    else:
                        yield _Entry(name=below + entry.name, place=place, target=to)
        starts = sorted(links)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: open_corpus says so, if its name is that of a shard
        return False


def _below(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"  # of strings: there may be millions
