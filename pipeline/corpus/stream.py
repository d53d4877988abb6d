"""Streams: the bytes of a file of lines, decompressed and in pieces."""

from __future__ import annotations

import bz2
import contextlib
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.errors import CorpusError

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdError, ZstdFile
else:
    from backports.zstd import DecompressionParameter, ZstdError, ZstdFile

BLOCK_BYTES = 4 << 20
PACKED_BYTES = 1 << 17  # read of a packed file at once
COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".xz": "xz"}  # each is a command too
PACKINGS = ("", *COMPRESSION)  # what may come after the ending of a text
UNREADABLE = (OSError, EOFError, MemoryError, zlib.error, lzma.LZMAError, ZstdError)
MAX_WINDOW = {int(DecompressionParameter.window_log_max): 31}  # 2 GiB, as `zstd --long=31` writes
MAX_XZ_BYTES = 3 << 30  # of memory: a window of 2 GiB, and what goes with it


class Stream(Protocol):
    """Bytes that come one after the other."""

    def read(self, n_bytes: int, /) -> bytes:
        """Return that many bytes, fewer at the end alone."""
        ...


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
        self._compression = COMPRESSION.get(path.suffix.lower(), "")
        self.is_packed = self._compression != ""
        self.position = 0
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._stream = self._unpacked()
        except UNREADABLE as error:
            self._file.close()
            raise self._unreadable(error) from error

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes, fewer at the end of the file; raises CorpusError for a stream that cannot be read."""
        try:
            data = self._stream.read(n_bytes)
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        self.position += len(data)
        return data

    @property
    def position_in_file(self) -> int:
        """How many bytes of the file were taken so far, about: packed ones are read ahead."""
        return self._file.tell() if self.is_packed else self.position

    def skip_to(self, position: int) -> None:
        """Move forward to a position, or to the end of the file."""
        if not self.is_packed:
            self._file.seek(position)
            self.position = position
        while self.position < position and self.read(min(BLOCK_BYTES, position - self.position)):
            pass

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unpacked(self) -> Stream:
        if self._compression == "gzip":
            return _Gzip(self._file)
        if self._compression == "zstd" and self._file.peek(1):  # of no bytes it says that they end too early
            return ZstdFile(self._file, options=MAX_WINDOW)
        if self._compression == "bzip2":
            return _Members(self._file, bz2.BZ2Decompressor, b"BZh")
        if self._compression == "xz":
            return _Members(self._file, partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, MAX_XZ_BYTES), b"\xfd7zXZ\0")
        return self._file

    def _unreadable(self, error: Exception) -> CorpusError:
        packed = f" packed by {self._compression}" * self.is_packed
        return CorpusError(f"{self._path}: expected a readable file of lines{packed}, found: {error}")


class _Gzip:
    """The members of a gzip file one after the other; zero bytes after a member are padding.

    It is as fast as pyarrow, which refuses padding; that of the standard library takes a quarter more time.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._input = b""
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._is_begun = False  # whether the member has had any input

    def read(self, n_bytes: int, /) -> bytes:
        """Return that many bytes, fewer at the end; raises EOFError or zlib.error."""
        pieces: list[bytes] = []
        while n_bytes > 0 and self._has_more():
            piece = self._member.decompress(self._input, n_bytes)
            self._is_begun = True
            self._input = self._member.unconsumed_tail
            n_bytes -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _has_more(self) -> bool:
        """Whether there is input, or output that waits for no input; goes over the end of a member and its padding."""
        if self._member.eof:
            self._input = self._member.unused_data.lstrip(b"\0")
            while not self._input and (block := self._file.read(PACKED_BYTES)):
                self._input = block.lstrip(b"\0")
            if not self._input:
                return False
            if not self._input.startswith(b"\x1f"):
                raise EOFError("bytes after its end that are no gzip")
            self._member, self._is_begun = zlib.decompressobj(zlib.MAX_WBITS | 16), False
        self._input = self._input or self._file.read(PACKED_BYTES)
        if not self._input and self._is_begun:
            raise EOFError("an end in its middle")
        return self._input != b""


class _Members:
    """The streams of a bzip2 or xz file one after the other; zero bytes after one are padding.

    The files of the standard library end without a word where a later stream is damaged in its first bytes.
    """

    def __init__(
        self, file: BinaryIO, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor], magic: bytes
    ) -> None:
        self._file, self._new, self._magic = file, new, magic
        self._member = new()
        self._input = file.read(PACKED_BYTES)
        self._is_empty = not self._input  # a file of no bytes

    def read(self, n_bytes: int, /) -> bytes:
        """Return that many bytes, fewer at the end; raises EOFError, OSError or lzma.LZMAError."""
        pieces: list[bytes] = []
        while n_bytes > 0 and self._has_more():
            piece = self._member.decompress(self._input, n_bytes)
            self._input = b""
            n_bytes -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _has_more(self) -> bool:
        """Whether there is another piece to unpack; goes over the end of a stream and its padding."""
        if self._is_empty:
            return False
        if self._member.eof:
            self._input = self._member.unused_data.lstrip(b"\0")
            while len(self._input) < len(self._magic) and (block := self._file.read(PACKED_BYTES)):
                self._input = (self._input + block).lstrip(b"\0")
            if not self._input:
                return False
            if not self._input.startswith(self._magic):
                raise EOFError("bytes after its end that are no other stream")
            self._member = self._new()
        if self._member.needs_input and not self._input:
            self._input = self._file.read(PACKED_BYTES)
            if not self._input:
                raise EOFError("an end in its middle")
        return True
