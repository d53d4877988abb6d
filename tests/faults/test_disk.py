"""Disks that are full, read-only or failing, and inputs that change while they are read."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.chunk import Chunk, Span
from pipeline.cli import main
from pipeline.corpus import Columns, Rows
from pipeline.corpus.chunk_reader import ChunkReader
from pipeline.corpus.reader import READERS
from pipeline.dataset.manifest import Receipt
from pipeline.dataset.store import Store
from pipeline.driver.fan_out import FanOut, fan_out_here
from pipeline.driver.inventory import RunOptions
from pipeline.driver.plan import make_plan
from pipeline.driver.run import run
from pipeline.errors import CorpusError
from pipeline.worker.embed import Failure, Job
from tests.support import (
    HASHING,
    command,
    ids,
    local_config,
    read_dataset,
    texts,
    write_jsonl,
    write_parquet,
)

ROWS = texts(1500)
CONFIG = local_config("engine.kind=hashing", "run.chunk_tokens=1000")
SMALL = (*HASHING, "--set", "run.chunk_tokens=1000")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "in/a.parquet", ROWS[:700])
    write_jsonl(tmp_path / "in/b.jsonl", ROWS[700:])
    return tmp_path / "in"


@pytest.fixture(scope="session")
def mounts() -> None:
    """Skip where this process may not mount anything."""
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"needs the right to mount: {tried.stderr.strip()}")


def in_mount(output: Path, mount: str, *steps: str | Sequence[str]) -> list[subprocess.CompletedProcess[str]]:
    """Run shell steps, one after the other, where `output` is mounted; return how each ended."""
    output.mkdir(exist_ok=True)
    script = [mount.format(shlex.quote(str(output)))]
    for number, step in enumerate(steps):
        words = step.format(shlex.quote(str(output))) if isinstance(step, str) else shlex.join(step)
        script.append(f"code=0; ({words}) >{number}.out 2>{number}.err || code=$?; echo $code >{number}.code")
    subprocess.run(["unshare", "-m", "sh", "-ec", "\n".join(script)], cwd=output.parent, check=True)
    read = output.parent.joinpath
    return [
        subprocess.CompletedProcess(
            step, int(read(f"{n}.code").read_text()), read(f"{n}.out").read_text(), read(f"{n}.err").read_text()
        )
        for n, step in enumerate(steps)
    ]


def check_one_line(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("embed-corpus: ")
    assert words in done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    "size", [pytest.param("16k", marks=pytest.mark.slow), "150k", pytest.param("900k", marks=pytest.mark.slow)]
)
def test_a_full_disk_ends_in_one_line_and_the_run_goes_on_when_there_is_room(
    corpus: Path, tmp_path: Path, size: str
) -> None:
    embed = command("run", "--input", corpus, "--output", tmp_path / "out", *SMALL)
    full, checked, leftovers, again, whole, _ = in_mount(
        tmp_path / "out",
        f"mount -t tmpfs -o size={size} none {{}}",
        embed,
        command("verify", tmp_path / "out"),
        "find {} -name '.*.tmp' | grep .",
        f"mount -o remount,size=50m {{}}; {shlex.join(embed)}",
        command("verify", tmp_path / "out", "--input", corpus),
        "cp -r {} kept",
    )
    check_one_line(full, 3, "No space left on device")
    assert str(tmp_path / "out") in full.stderr
    assert checked.returncode == 3 or "expected a dataset" in checked.stderr
    assert leftovers.returncode == 1, leftovers.stdout
    assert again.returncode == whole.returncode == 0, again.stderr
    assert sorted(ids(tmp_path / "kept")) == sorted(row["id"] for row in ROWS)


@pytest.mark.usefixtures("mounts")
def test_an_output_that_is_read_only_is_refused_before_anything_is_embedded(corpus: Path, tmp_path: Path) -> None:
    assert main(["run", "--input", str(corpus), "--output", str(tmp_path / "out"), *SMALL]) == 0
    (tmp_path / "empty").mkdir()
    lock = "mount --bind {0} {0}; mount -o remount,ro,bind {0}"
    found = in_mount(
        tmp_path / "out",
        lock,
        command("run", "--input", corpus, "--output", tmp_path / "out", *SMALL),
        command("verify", tmp_path / "out", "--repair"),
        command("verify", tmp_path / "out", "--input", corpus),
        command("status", tmp_path / "out"),
    )
    check_one_line(found[0], 2, "Read-only file system")
    check_one_line(found[1], 2, "Read-only file system")
    assert [done.returncode for done in found[2:]] == [0, 0]
    [empty] = in_mount(
        tmp_path / "empty", lock, command("run", "--input", corpus, "--output", tmp_path / "empty", *SMALL)
    )
    check_one_line(empty, 2, "Read-only file system")


@pytest.mark.parametrize("limit_bytes", [600, 5_000, 30_000])
def test_a_file_that_may_not_grow_ends_in_one_line(corpus: Path, tmp_path: Path, limit_bytes: int) -> None:
    embed = command("run", "--input", corpus, "--output", tmp_path / "out", *SMALL)
    done = subprocess.run(["prlimit", f"--fsize={limit_bytes}", *embed], capture_output=True, text=True)
    check_one_line(done, 3, "File too large")
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert main(embed[3:]) == 0
    assert sorted(ids(tmp_path / "out")) == sorted(row["id"] for row in ROWS)


@pytest.mark.usefixtures("mounts")
def test_a_manifest_that_cannot_be_read_is_told_and_the_parts_say_what_they_are(corpus: Path, tmp_path: Path) -> None:
    embed = ["run", "--input", str(corpus), "--output", str(tmp_path / "out"), *SMALL]
    assert main(embed) == 0
    before = read_dataset(tmp_path / "out")
    found = in_mount(
        tmp_path / "out",
        "mount --bind /proc/$$/mem {}/manifest.jsonl",  # reading it is a real EIO
        command(*embed),
        command("status", tmp_path / "out"),
        command("verify", tmp_path / "out"),
    )
    for done in found:
        check_one_line(done, 6, "manifest.jsonl: expected a file that can be read, found: Input/output error")
    (tmp_path / "out/manifest.jsonl").unlink()
    assert main(embed) == 0
    assert read_dataset(tmp_path / "out").equals(before)


def after_one(store: Store, change: Callable[[], object]) -> FanOut:
    """Return the fan-out of this machine, which changes something once the first chunk is finished."""

    def fan_out(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        for number, outcome in enumerate(fan_out_here(store)(chunks, job)):
            if number == 0:
                change()
            yield outcome

    return fan_out


def rewrite(path: Path) -> None:
    (write_parquet if path.suffix == ".parquet" else write_jsonl)(path, texts(900, start=5000))


CHANGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" \n"),
    "another": rewrite,
    "gone": lambda path: path.unlink(),
    "only touched": lambda path: os.utime(path, ns=(1, 1)),
}


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_input_that_changes_under_the_run_is_reported_and_never_mixed(
    tmp_path: Path, name: str, change: str
) -> None:
    path = tmp_path / "in" / name
    (write_parquet if name.endswith("parquet") else write_jsonl)(path, ROWS)
    write_jsonl(tmp_path / "in/b.jsonl", ROWS[:10])
    store = Store(root=tmp_path / "out")
    outcome = run(str(tmp_path / "in"), store, CONFIG, fan_out=after_one(store, lambda: CHANGES[change](path)))
    assert outcome.run.state == "incomplete"
    assert f"{name}: expected" in outcome.shortfall()
    assert all(failure.source == name for failure in outcome.failures)
    if path.exists():
        rewrite(path)
        expected = texts(900, start=5000)
    else:
        expected = []
    asked = RunOptions(prune=True)
    done = run(str(tmp_path / "in"), store, CONFIG, fan_out=fan_out_here(store), options=asked)
    assert done.run.state == "complete"
    assert sorted(ids(tmp_path / "out")) == sorted(row["id"] for row in [*expected, *ROWS[:10]])
    assert main(["verify", str(tmp_path / "out"), "--input", str(tmp_path / "in")]) == 0


def test_files_that_change_under_the_run_cost_their_own_rows_alone_of_a_chunk_of_many(tmp_path: Path) -> None:
    for number in range(30):
        write = write_parquet if number % 2 else write_jsonl
        write(tmp_path / f"in/{number:02}.{'parquet' if number % 2 else 'jsonl'}", texts(5, start=5 * number))
    store, changed = Store(root=tmp_path / "out"), {"04.jsonl", "17.parquet", "21.parquet"}

    def fan_out(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        [chunk] = chunks
        (tmp_path / "in/04.jsonl").unlink()
        rewrite(tmp_path / "in/17.parquet")
        os.utime(tmp_path / "in/21.parquet", ns=(1, 1))
        yield from fan_out_here(store)([chunk], job)

    config = local_config("engine.kind=hashing")
    outcome = run(str(tmp_path / "in"), store, config, fan_out=fan_out)
    assert (outcome.run.state, outcome.run.missing_chunks, outcome.run.embedded_now) == ("incomplete", 1, 27 * 5)
    assert "04.jsonl: expected" in outcome.shortfall()
    found = {source for source in read_dataset(store.root).column("source").to_pylist()}
    assert len(found) == 27
    assert not found & changed
    done = run(str(tmp_path / "in"), store, config, fan_out=fan_out_here(store), options=RunOptions(prune=True))
    assert (done.run.state, done.run.embedded_now) == ("complete", 900 + 5)
    assert main(["verify", str(store.root), "--input", str(tmp_path / "in")]) == 0


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_an_input_that_changes_while_it_is_read_is_in_no_part(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as it was when the reading begins, and another when that ends."""
    path = tmp_path / "in" / name
    (write_parquet if name.endswith("parquet") else write_jsonl)(path, ROWS)
    kind, store = READERS[path.suffix], Store(root=tmp_path / "out")
    read = kind.read

    def read_what_changes(reader: Any, span: Span, columns: Columns) -> Rows:
        rows = read(reader, span, columns)
        rewrite(path)
        return rows

    def fan_out(chunks: Iterable[Chunk], job: Job) -> Iterator[Receipt | Failure]:
        monkeypatch.setattr(kind, "read", read_what_changes)  # now that it is planned
        yield from fan_out_here(store)(chunks, job)

    outcome = run(str(tmp_path / "in"), store, CONFIG, fan_out=fan_out)
    assert outcome.run.state == "incomplete"
    assert f"{name}: expected" in outcome.shortfall()
    assert store.part_sizes() == {}


def test_other_lines_under_the_same_size_and_time_are_noticed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS[:50])
    found = make_plan(str(path), Store(root=tmp_path / "out"), CONFIG)
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"\n", b" ", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CorpusError, match=r"a\.jsonl rows .* expected .* lines, found"), ChunkReader() as reader:
        reader.read(found.corpus.root, found.corpus.columns, found.chunks[0].spans)


def test_a_part_that_lost_bytes_in_its_middle_is_made_again_although_its_footer_is_whole(
    corpus: Path, tmp_path: Path
) -> None:
    embed = ["run", "--input", str(corpus), "--output", str(tmp_path / "out"), *SMALL]
    assert main(embed) == 0
    before = read_dataset(tmp_path / "out")
    for keep_manifest in (True, False):
        part = sorted((tmp_path / "out/data").iterdir())[0]
        data = part.read_bytes()
        part.write_bytes(data[:1000] + data[1100:])
        if not keep_manifest:
            (tmp_path / "out/manifest.jsonl").unlink()
        assert main(embed) == 0
        assert main(["verify", str(tmp_path / "out"), "--input", str(corpus)]) == 0
        assert read_dataset(tmp_path / "out").equals(before)


def test_a_part_whose_rejects_are_gone_is_not_adopted(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [*ROWS[:5], {"text": None}])
    embed = ["run", "--input", str(source), "--output", str(tmp_path / "out"), *SMALL]
    assert main(embed) == 0
    (tmp_path / "out/manifest.jsonl").unlink()
    shutil.rmtree(tmp_path / "out/rejects")
    assert main(embed) == 0
    assert main(["verify", str(tmp_path / "out"), "--input", str(source)]) == 0
