"""Streams: the bytes of a file of lines, decompressed and in pieces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.errors import CorpusError

BLOCK_BYTES = 4 << 20
COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


def read_blocks(path: Path, start: int, stop: int | None) -> Iterator[bytes]:
    """Yield the bytes [start, stop) of a file in pieces; without a stop all from `start` on."""
    with contextlib.closing(Cursor(path)) as cursor:
        cursor.skip_to(start)
        while block := cursor.read(BLOCK_BYTES if stop is None else min(BLOCK_BYTES, stop - cursor.position)):
            yield block


class Cursor:
    """A position in the decompressed bytes of a file, which moves forward only unless the file is plain."""

    def __init__(self, path: Path) -> None:
        self._path = path
        compression = COMPRESSION.get(path.suffix.lower())
        self.is_packed = compression is not None
        with self._translated():
            if compression is None:
                self._stream = path.open("rb")
            else:
                self._stream = pa.input_stream(str(path), compression=compression, buffer_size=1 << 20)
        self.position = 0

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes, fewer at the end of the file; raises CorpusError for a stream that cannot be read."""
        with self._translated():
            data: bytes = self._stream.read(n_bytes)
        self.position += len(data)
        return data

    def skip_to(self, position: int) -> None:
        """Move forward to a position, or to the end of the file."""
        if not self.is_packed:
            self._stream.seek(position)
            self.position = position
        while self.position < position and self.read(min(BLOCK_BYTES, position - self.position)):
            pass

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise CorpusError(f"{self._path}: expected a readable file of lines, found: {error}") from error
