"""Files of an output: written whole or not at all, and made durable; an error says which file and what to do."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.errors import OutputError


def publish_file(path: Path, data: pa.Buffer) -> None:
    """Write a file under a temporary name, flush it and rename it; raises OutputError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path), contextlib.ExitStack() as on_leaving:
        path.parent.mkdir(parents=True, exist_ok=True)
        on_leaving.callback(temporary.unlink, missing_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)


def append_file(path: Path, data: bytes) -> None:
    """Add to the end of a file and flush it; raises OutputError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def move_file(path: Path, to: Path) -> None:
    """Rename a file; the caller syncs the folder. Raises OutputError."""
    with writing(to):
        path.replace(to)


def remove_file(path: Path) -> None:
    """Remove a file if it is there; raises OutputError."""
    with writing(path):
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make durable what was renamed into or out of a folder."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def checksum(data: pa.Buffer) -> str:
    """Return 32 hex digits over the bytes of a file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_checksum(path: Path) -> str:
    """Return the `checksum` of a file, which is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what the system says about a file that cannot be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"output {path}: expected to write it, found: {error.strerror}; mend that and run again: what is finished "
            "stays"
        ) from error
