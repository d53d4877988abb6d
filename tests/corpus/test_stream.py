"""Streams: what others unpack is unpacked, and a stream that does not end well is refused by its file's name."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import itertools
import lzma
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus import stream
from pipeline.corpus.stream import Cursor, read_blocks
from pipeline.errors import CorpusError

numbers = itertools.count()
SKIPPED = struct.pack("<II", 0x184D2A5E, 12) + bytes(12)  # a skippable frame


def zstd_frame(data: bytes, window_log: int = 21) -> bytes:
    """Return a frame of raw blocks, by RFC 8878."""
    pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)] or [b""]
    heads = [(len(piece) << 3 | (at == len(pieces) - 1)).to_bytes(3, "little") for at, piece in enumerate(pieces)]
    blocks = b"".join(head + piece for head, piece in zip(heads, pieces, strict=True))
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + blocks


def unpacked(folder: Path, data: bytes, suffix: str = ".jsonl.gz") -> bytes:
    path = folder / f"{next(numbers)}{suffix}"
    path.write_bytes(data)
    return b"".join(read_blocks(path, 0, None))


members = st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 40)), min_size=1, max_size=6)


@given(parts=members, block=st.integers(1, 100), read=st.integers(1, 64))
def test_zero_bytes_after_a_member_of_gzip_are_nothing(
    parts: list[tuple[bytes, int]], block: int, read: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    monkeypatch.setattr(stream, "PACKED_BYTES", read)
    packed = b"".join(gzip.compress(data, mtime=0) + bytes(n_zeros) for data, n_zeros in parts)
    assert unpacked(tmp_path, packed) == b"".join(data for data, _ in parts)


@pytest.mark.parametrize("n_zeros", [1, 512, 10_240, (1 << 20) + 1])
def test_gzip_agrees_about_padding(tmp_path: Path, n_zeros: int) -> None:
    data = gzip.compress(b"a line\n" * 1000, mtime=0) + bytes(n_zeros)
    assert unpacked(tmp_path, data) == subprocess.run(["gzip", "-dc"], input=data, capture_output=True).stdout


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (gzip.compress(b"a\n", mtime=0) + b"more", "bytes after its end that are no gzip"),
        (gzip.compress(b"a\n", mtime=0) + bytes(9) + b"more", "bytes after its end that are no gzip"),
        (gzip.compress(b"a\n", mtime=0) + b"\x1fmore", "incorrect header check"),
        (gzip.compress(b"a\n", mtime=0)[:-1], "an end in its middle"),
        (gzip.compress(b"a\n" * 9, mtime=0)[:15], "an end in its middle"),
        (gzip.compress(b"a\n", mtime=0)[:3], "an end in its middle"),
        (gzip.compress(b"a\n", mtime=0)[:-8] + bytes(8), "incorrect data check"),
        (bytes(100), "incorrect header check"),
    ],
)
def test_gzip_that_does_not_end_well_is_refused(tmp_path: Path, data: bytes, found: str) -> None:
    with pytest.raises(CorpusError, match=rf"jsonl\.gz: expected a readable file of lines packed by gzip, .*{found}"):
        unpacked(tmp_path, data)


@pytest.mark.parametrize("window_log", [21, 27, 28, 31])
def test_zstd_with_a_window_up_to_two_gibibytes_is_read(tmp_path: Path, window_log: int) -> None:
    packed = SKIPPED + zstd_frame(b"a\n" * 70_000, window_log) + SKIPPED + zstd_frame(b"b\n", window_log) + SKIPPED
    assert unpacked(tmp_path, packed, ".jsonl.zst") == b"a\n" * 70_000 + b"b\n"


@pytest.mark.parametrize(
    "data", [zstd_frame(b"a\n") + b"more", zstd_frame(b"a\n")[:-1], zstd_frame(b"a\n", 32), b"a\n", SKIPPED[:-1]]
)
def test_zstd_that_does_not_end_well_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CorpusError, match=r"jsonl\.zst: expected a readable file of lines packed by zstd"):
        unpacked(tmp_path, data, ".jsonl.zst")


PACK: dict[str, Callable[[bytes], bytes]] = {".jsonl.bz2": bz2.compress, ".jsonl.xz": lzma.compress}
COMMANDS = {".jsonl.bz2": "bzip2", ".jsonl.xz": "xz"}


@pytest.mark.parametrize("suffix", PACK)
@given(
    parts=st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 10)), min_size=1, max_size=4),
    block=st.integers(1, 100),
    read=st.integers(1, 64),
)
def test_streams_of_bzip2_and_xz_follow_one_another(
    parts: list[tuple[bytes, int]], block: int, read: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", block)
    monkeypatch.setattr(stream, "PACKED_BYTES", read)
    packed = b"".join(PACK[suffix](data) + bytes(4 * n) for data, n in parts)
    assert unpacked(tmp_path, packed, suffix) == b"".join(data for data, _ in parts)


@pytest.mark.parametrize("suffix", PACK)
@given(data=st.data())
def test_bzip2_and_xz_that_do_not_end_well_are_refused(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    one = PACK[suffix](b"a line\n" * 50)
    n_bytes = data.draw(st.integers(1, len(one) - 1))
    flipped = bytearray(one + one)
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for broken in (one[:n_bytes], one + one[:n_bytes], one + b"more", one + bytes(4) + b"more"):
        with pytest.raises(CorpusError, match=rf"expected a readable file of lines packed by {COMMANDS[suffix]}"):
            unpacked(tmp_path, broken, suffix)
    with contextlib.suppress(CorpusError):  # bzip2 has bits that say nothing
        assert unpacked(tmp_path, bytes(flipped), suffix) == b"a line\n" * 100


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bz2", ".jsonl.xz"])
def test_a_file_of_no_bytes_is_empty(tmp_path: Path, suffix: str) -> None:
    assert unpacked(tmp_path, b"", suffix) == b""


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_an_ordinary_file_takes_no_more_memory_for_the_windows_that_are_allowed(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"x.jsonl.{ {'gzip': 'gz', 'zstd': 'zst'}[codec] }"
    with pa.output_stream(str(path), compression=codec) as out:
        out.write(b"a line\n" * (1 << 20))
    before = data_bytes()
    with contextlib.closing(Cursor(path)) as cursor:
        cursor.read(1 << 20)
        assert data_bytes() - before < 32 << 20


def data_bytes() -> int:
    """Return the memory that this process has asked for."""
    found = re.search(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
