"""Files: written whole or not at all and made durable, Parquet opened; an error says which file and what to do.

Datasets are handed around, so a file of an output is opened only where it is one itself: no link is followed, and
nothing is waited for in a FIFO or read from a device.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, OutputError

# What pyarrow raises for bytes that make no sense.
UNREADABLE = (OSError, ValueError, OverflowError, RuntimeError, MemoryError, pa.ArrowException)

Check = Callable[[], None]

# Set where files are on the volumes of a platform, reached over a network: a commit makes them durable, and their dates
# are known in whole seconds.
VOLUMES_VARIABLE = "EMBED_ON_VOLUMES"

FLAGS = {
    "rb": os.O_RDONLY,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+b": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}
KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(path: Path) -> str:
    """Return in words what is at a path, a link for itself; "" for nothing."""
    try:
        return KINDS.get(stat.S_IFMT(path.lstat().st_mode), "an odd file")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return ""
        raise


def names_in(folder: Path) -> list[str]:
    """Return the sorted names of what is in a folder; none where there is no folder, or a link to one."""
    return sorted(os.listdir(folder)) if kind_of(folder) == "a folder" else []  # noqa: PTH208  names are all there is


def is_file(path: Path) -> bool:
    """Whether there is a file at a path, and no link to one."""
    return kind_of(path) == "a file"


def check_file(path: Path) -> None:
    """Raise OSError where there is something else than a file, links among it; nothing there is right."""
    if kind_of(path) not in ("a file", ""):
        raise OSError(errno.EINVAL, f"{kind_of(path)} in the place of a file", str(path))


def open_file(path: Path, mode: Literal["rb", "wb", "ab", "a+b"] = "rb") -> BufferedIOBase:
    """Open a file as `open` does, but never what a link leads to; raises OSError at once for a FIFO and the like."""
    check_file(path)
    descriptor = os.open(str(path), FLAGS[mode] | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    return cast("BufferedIOBase", os.fdopen(descriptor, mode))


def read_file(path: Path) -> bytes:
    """Return the bytes of a file; raises OSError as `open_file` does."""
    with open_file(path) as file:
        return file.read()


def publish_file(path: Path, data: pa.Buffer, check: Check = lambda: None) -> None:
    """Write a file under a temporary name, flush it and rename it; raises OutputError.

    `check` raises where that must not be, such as for an output that is another run's by now. It is asked at the last
    moment: a run may be stopped at any point, and go on an hour later.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    check()
    with writing(path, check), contextlib.ExitStack() as on_leaving:
        _make_folder(path.parent, check)
        on_leaving.callback(temporary.unlink, missing_ok=True)
        with open_file(temporary, "wb") as file:
            file.write(data)
            _flush(file)
        check()
        temporary.replace(path)
        sync_folder(path.parent)


def append_file(path: Path, data: bytes, check: Check = lambda: None) -> None:
    """Add to the end of a file and flush it; raises OutputError. See `publish_file` for `check`."""
    check()
    with writing(path, check):
        _make_folder(path.parent, check)
        with open_file(path, "ab") as file:
            check()
            file.write(data)
            _flush(file)


def on_volumes() -> bool:
    """Whether files are on volumes of a platform, see VOLUMES_VARIABLE."""
    return bool(os.environ.get(VOLUMES_VARIABLE))


def _flush(file: BufferedIOBase) -> None:
    file.flush()
    if not on_volumes():  # where a commit is what makes durable, an fsync may be a commit of its own, or refused
        os.fsync(file.fileno())


def _make_folder(path: Path, check: Check) -> None:
    """Make a folder, and of those above it the ones that were missing before the check: an output that was deleted
    after it is not made again."""
    missing = list(itertools.takewhile(lambda folder: not kind_of(folder), (path, *path.parents)))
    if missing:
        check()
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)


def move_file(path: Path, to: Path) -> None:
    """Rename a file; the caller syncs the folder. Raises OutputError."""
    with writing(to):
        path.replace(to)


def remove_file(path: Path) -> None:
    """Remove a file if it is there; raises OutputError."""
    with writing(path):
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make durable what was renamed into or out of a folder; on volumes a commit does."""
    if on_volumes():
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def checksum(data: pa.Buffer) -> str:
    """Return 32 hex digits over the bytes of a file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_checksum(path: Path) -> str:
    """Return the `checksum` of a file, which is read in pieces; raises OSError as `open_file` does."""
    with open_file(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextlib.contextmanager
def writing(path: Path, check: Check = lambda: None) -> Iterator[None]:
    """Translate what the system says about a file that cannot be written, unless `check` says more of it."""
    try:
        yield
    except OSError as error:
        check()
        raise OutputError(
            f"output {path}: expected to write it, found: {error.strerror}; mend that and run again: what is finished "
            "stays"
        ) from error


@contextlib.contextmanager
def open_parquet(path: Path, rows: str = "") -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to be read in pieces; the checksums of pages are checked where there are any.

    Raises CorpusError naming the file and `rows` when the footer, or within the context a page, cannot be read.
    """
    with parquet_file(path, rows) as file, readable(path, rows, "pages that can be read"):
        yield file


@contextlib.contextmanager
def open_own_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of an output as `open_parquet` does, but never what a link leads to.

    pyarrow opens a path: one who can put a link there between the look and the opening can write in the output anyway.
    """
    if (found := kind_of(path)) not in ("a file", ""):
        raise CorpusError(f"{path}: expected a Parquet file, found {found}")
    with open_parquet(path) as file:
        try:
            yield file
        except KeyError as error:
            raise CorpusError(f"{path}: expected the columns and the footer of a part, found: {error}") from error


def parquet_file(path: Path, rows: str = "", *, int96_unit: str = "us") -> pq.ParquetFile:
    """Return an open Parquet file, which the caller closes; raises CorpusError when its footer cannot be read.

    In ns, INT96 times before 1678 or after 2262 come out as others.
    """
    with readable(path, rows, "a Parquet file"), contextlib.ExitStack() as on_failure:
        file = pq.ParquetFile(
            path,
            pre_buffer=False,
            buffer_size=1 << 18,
            page_checksum_verification=True,
            coerce_int96_timestamp_unit=int96_unit,
        )
        on_failure.callback(file.close)
        _check_counts(file.metadata)
        on_failure.pop_all()
        return file


@contextlib.contextmanager
def readable(path: Path, rows: str, expected: str) -> Iterator[None]:
    """Translate what pyarrow says about a file that cannot be read."""
    try:
        yield
    except UNREADABLE as error:
        raise CorpusError(f"{path}{rows}: expected {expected}, found: {error}") from error


def _check_counts(metadata: pq.FileMetaData) -> None:
    counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    if min(counts, default=0) < 0 or sum(counts) != metadata.num_rows:
        raise ValueError(f"{metadata.num_rows} rows in a footer whose row groups have {sum(counts)}")
