"""Files that unpack to more than any memory holds, and datasets larger than what reads them."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipeline.dataset.store import Store
from tests.support import HASHING, command, embed_corpus, texts, write_jsonl

LIMIT_BYTES = 1 << 30  # of data; a run needs about a third of it
BOMB_BYTES = 3 << 29
BLOCK = b"a" * (64 << 20)
PEAK = """
import re, sys
from pathlib import Path
from pipeline.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    frame: bytes = sink.getvalue().to_pybytes()
    return frame


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("start", [b"", b'{"text": "a"}\n' * 1000], ids=["at once", "after good rows"])
def test_gigabytes_of_one_line_end_in_an_error_or_a_reject_about_its_length(
    tmp_path: Path, suffix: str, start: bytes
) -> None:
    pack: Callable[[bytes], bytes] = gzip.compress if suffix == "gz" else zstd
    bomb, output = tmp_path / f"bomb.jsonl.{suffix}", tmp_path / "out"
    bomb.write_bytes(pack(start + b'{"text": "') + pack(BLOCK) * (BOMB_BYTES // len(BLOCK)))
    assert bomb.stat().st_size < BOMB_BYTES // 500
    run = command("run", "--input", bomb, "--output", output, *HASHING)
    done = subprocess.run(["prlimit", f"--data={LIMIT_BYTES}", *run], capture_output=True, text=True, timeout=100)
    if start:
        assert done.returncode == 0, done.stderr
        (reject,) = ds.dataset(output / "rejects", format="parquet").to_table().to_pylist()
        assert (reject["row"], reject["reason"]) == (1000, "too_long")
        assert reject["detail"] == f"expected lines of at most 16,777,216 bytes, found one of {BOMB_BYTES + 10:,}"
        assert reject["text"] == '{"text": "' + "a" * 990
    else:
        assert done.returncode == 2, done.stderr
        *progress, error = done.stderr.splitlines()
        assert f"bomb.jsonl.{suffix} row 0: expected lines of at most 16,777,216 bytes" in error
        assert all(line.startswith("reading the input, ") for line in progress), "every 10 s of a slow machine"


def peak_kb(*arguments: str | Path) -> int:
    """Return the peak memory of a command line."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_verify_takes_as_much_memory_for_five_times_the_rows_in_larger_and_in_more_parts(tmp_path: Path) -> None:
    peaks: dict[str, int] = {}
    for name, n_rows, chunk_tokens in (
        ("few", 10_000, 20_000),
        ("more", 100_000, 20_000),
        ("larger", 100_000, 200_000),
    ):
        source = write_jsonl(tmp_path / f"{name}.jsonl", texts(n_rows))
        run = ("run", "--input", source, "--output", tmp_path / name, *HASHING)
        assert embed_corpus(*run, "--set", f"run.chunk_tokens={chunk_tokens}").returncode == 0
        peaks[name] = peak_kb("verify", tmp_path / name, "--input", source)
    assert max(peaks.values()) <= 1.2 * peaks["few"], peaks  # measured: 1.06 to 1.16
    sizes = {name: Store(root=tmp_path / name).part_sizes() for name in peaks}
    assert len(sizes["more"]) > 4 * len(sizes["few"])
    assert max(sizes["larger"].values()) > 3 * max(sizes["few"].values())
