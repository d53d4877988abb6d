"""The store: a file has its final name only when it is whole, and a dataset has one writer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.chunk import Shard, ShardSpan, Span
from pipeline.dataset.manifest import Dataset, Receipt, Run
from pipeline.dataset.ours import sweep
from pipeline.dataset.store import Store
from pipeline.dataset.volume import LocalVolume
from pipeline.driver.fan_out import fan_out_here
from pipeline.driver.run import run
from pipeline.errors import OutputError, OutputLockedError, UsageError
from pipeline.files import VOLUMES_VARIABLE, checksum, file_checksum
from pipeline.recipe import fingerprint
from pipeline.schema import PART
from tests.support import REPOSITORY, local_config, write_jsonl

RECIPE = json.dumps({"run.dim": 2})
MARK = fingerprint(json.loads(RECIPE))
DATASET = Dataset(fingerprint=MARK, recipe={"run.dim": 2}, config={})
RUN = Run(state="complete", input="in", started_at=1.0)
RECEIPT = Receipt(
    chunk="c",
    part="part-a.parquet",
    has_rejects=True,
    fingerprint=MARK,
    spans=(
        ShardSpan(
            shard=Shard(source="é.jsonl", size_bytes=1, mtime_ns=2), span=Span(row_start=0, row_stop=3), last=True
        ),
    ),
    input_rows=3,
    embedded_rows=2,
    rejected_rows=1,
    passages=2,
    truncated=0,
    tokens=5,
)
COLUMNS = {
    "id": ["a", "b"],
    "source": ["é.jsonl"] * 2,
    "row": [0, 1],
    **{name: [0, 0] for name in ("passage", "char_start", "char_end", "n_tokens")},
    "truncated": [False, False],
    "content_hash": [bytes(16)] * 2,
}
TABLE = pa.table(COLUMNS, PART).append_column(
    "embedding", pa.FixedSizeListArray.from_arrays(pa.array([1, 0, 0, 1], pa.float16()), 2)
)
REJECTS = pa.table({"id": ["c"]})

HOLD = """
import sys
from pathlib import Path
from pipeline.dataset.store import Store
from pipeline.dataset.volume import LocalVolume
with Store(root=Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(root=tmp_path / "out")
    with store.lock():
        pass
    return store


def published(store: Store) -> dict[str, pa.Table]:
    """Return what stands under a final name; a file that is not whole does not open."""
    paths = [path for folder in ("data", "rejects") for path in (store.root / folder).glob("*.parquet")]
    return {f"{path.parent.name}/{path.name}": pq.read_table(path) for path in paths}


def temporaries(store: Store) -> list[Path]:
    return list(store.root.rglob("*.tmp"))


@contextlib.contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """Let no file grow over `n_bytes`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, call: str, at: int) -> Iterator[list[int]]:
    """Make the `at`-th call of a function of `os` fail, counted from 0; yields what counts the calls."""
    real, calls = getattr(os, call), [0]

    def fail(*arguments: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] == at + 1:
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        yield calls


@contextlib.contextmanager
def held_elsewhere(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Hold the output in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


def watched(on_commit: Callable[[], None]) -> LocalVolume:
    """Return a volume whose commits a test sees."""

    class Watched(LocalVolume):
        def commit(self) -> None:
            on_commit()

    return Watched()


def test_a_part_is_its_own_record(store: Store) -> None:
    receipt = store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    data = store.data_path(RECEIPT.part).read_bytes()
    assert receipt == msgspec.structs.replace(
        RECEIPT,
        rejects_checksum=file_checksum(store.rejects_path(RECEIPT.part)),
        size_bytes=len(data),
        checksum=checksum(pa.py_buffer(data)),
    )
    assert store.receipt_of(RECEIPT.part) == receipt
    assert store.recipe_of(RECEIPT.part) == {"run.dim": 2}
    assert store.part_sizes() == {RECEIPT.part: len(data)}
    found = published(store)
    assert found["data/part-a.parquet"].equals(TABLE)
    assert found["rejects/part-a.parquet"].equals(REJECTS)


def test_a_part_without_rejects_has_no_file_of_them(store: Store) -> None:
    store.publish(RECEIPT, TABLE, None, RECIPE)
    assert list(published(store)) == ["data/part-a.parquet"]


def test_what_is_published_stands_under_its_final_name_when_it_is_committed(store: Store) -> None:
    seen: list[set[str]] = []
    volume = watched(lambda: seen.append(set(published(store))))
    Store(root=store.root, volume=volume).publish(RECEIPT, TABLE, REJECTS, RECIPE)
    assert seen == [{"data/part-a.parquet", "rejects/part-a.parquet"}]
    assert not temporaries(store)


def test_no_store_of_a_volume_writes_during_a_commit(store: Store) -> None:
    held: list[bool] = []
    volume = watched(lambda: held.append(volume.writing.locked()))
    output = Store(root=store.root, volume=volume)
    for place in (output, output.staging("f"), Store(root=store.root / "other", volume=volume)):
        place.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    assert output.republish(RECEIPT.part) is not None
    output.commit()
    assert held == [True] * 5


def test_a_store_without_commits_shares_the_lock_of_its_volume(store: Store) -> None:
    volume = watched(lambda: pytest.fail("committed"))
    place = Store(root=store.root, volume=volume).without_commits()
    place.publish(RECEIPT, TABLE, None, RECIPE)
    assert place.volume.writing is volume.writing


def test_a_failed_commit_is_not_hidden(store: Store) -> None:
    def commit() -> None:
        raise ConnectionError("volume is gone")

    broken = Store(root=store.root, volume=watched(commit))
    with pytest.raises(ConnectionError):
        broken.publish(RECEIPT, TABLE, REJECTS, RECIPE)


@pytest.mark.parametrize(("call", "at"), [("fsync", 0), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("open", 1)])
def test_whenever_publishing_fails_only_whole_files_have_a_final_name(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    with failing(monkeypatch, call, at) as calls, pytest.raises(OutputError, match="No space left"):
        store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    assert calls[0] == at + 1
    found = published(store)
    if "data/part-a.parquet" in found:
        assert found["data/part-a.parquet"].equals(TABLE)
        assert found["rejects/part-a.parquet"].equals(REJECTS)
    sweep(store)
    assert not temporaries(store)
    assert store.publish(RECEIPT, TABLE, REJECTS, RECIPE) == store.receipt_of(RECEIPT.part)


@pytest.mark.parametrize("n_bytes", [0, 100, 500])
def test_a_full_disk_leaves_no_part(store: Store, n_bytes: int) -> None:
    with full_disk(n_bytes), pytest.raises(OutputError, match="File too large"):
        store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    assert store.part_sizes() == {}
    assert all(table.equals(REJECTS) for table in published(store).values())
    sweep(store)
    assert not temporaries(store)


def test_publishing_again_replaces_a_part_whole(store: Store) -> None:
    store.publish(RECEIPT, TABLE, None, RECIPE)
    with full_disk(100), pytest.raises(OutputError, match="File too large"):
        store.publish(RECEIPT, TABLE.slice(0, 1), None, RECIPE)
    assert published(store)["data/part-a.parquet"].equals(TABLE)
    store.publish(RECEIPT, TABLE.slice(0, 1), None, RECIPE)
    assert published(store)["data/part-a.parquet"].equals(TABLE.slice(0, 1))


def test_the_manifest_is_replaced_whole_or_not_at_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.rewrite_manifest([DATASET, RECEIPT, RUN])
    before = store.read_manifest()
    with full_disk(50), pytest.raises(OutputError, match="File too large"):
        store.rewrite_manifest([DATASET, RUN])
    assert store.read_manifest() == before
    with failing(monkeypatch, "fsync", 0), pytest.raises(OutputError, match="No space left"):
        store.rewrite_manifest([DATASET, RUN])
    assert store.read_manifest() == before
    store.rewrite_manifest([DATASET, RUN])
    assert store.read_manifest().receipts == {}


def test_appending_adds_to_what_is_there(store: Store) -> None:
    for line in (DATASET, RECEIPT, RUN):
        store.append(line)
    found = store.read_manifest()
    assert (found.dataset, found.receipts, found.run) == (DATASET, {RECEIPT.part: RECEIPT}, RUN)


def test_an_append_cut_short_costs_its_own_line_alone(store: Store) -> None:
    store.rewrite_manifest([DATASET, RECEIPT])
    with full_disk(store.manifest_path.stat().st_size + 9), pytest.raises(OutputError, match="File too large"):
        store.append(RUN)
    found = store.read_manifest()
    assert (found.dataset, found.receipts, found.run) == (DATASET, {RECEIPT.part: RECEIPT}, None)
    assert found.n_unreadable == 1


def test_an_output_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = Store(root=tmp_path / "none")
    assert store.read_manifest().receipts == {}
    assert store.part_sizes() == {}
    assert not store.is_locked()
    sweep(store)
    assert not store.root.exists()


def test_files_of_others_are_not_parts(store: Store) -> None:
    pq.write_table(TABLE, store.data_path("other.parquet"))
    store.data_path("empty.parquet").touch()
    store.data_path("text.parquet").write_text("PAR1 no")
    pq.write_table(TABLE.replace_schema_metadata({"embed_corpus.receipt": "{}"}), store.data_path("odd.parquet"))
    assert [store.receipt_of(part) for part in sorted(store.part_sizes())] == [None] * 4
    assert store.receipt_of("none.parquet") is None


def test_a_part_under_another_name_is_not_that_part(store: Store) -> None:
    store.publish(RECEIPT, TABLE, None, RECIPE)
    shutil.copy(store.data_path(RECEIPT.part), store.data_path("copy.parquet"))
    assert store.receipt_of("copy.parquet") is None


def test_removing_takes_a_part_and_its_rejects_and_may_be_repeated(store: Store) -> None:
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    store.publish(msgspec.structs.replace(RECEIPT, part="part-b.parquet"), TABLE, None, RECIPE)
    for _ in range(2):
        store.remove("part-a.parquet")
    assert list(published(store)) == ["data/part-b.parquet"]


def test_sweeping_takes_temporaries_alone(store: Store) -> None:
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    store.append(RUN)
    for folder in (".", "data", "rejects"):
        (store.root / folder / ".manifest.jsonl.77.tmp").touch()
    (store.root / "notes.tmp").touch()
    before = {path for path in store.root.rglob("*") if not path.name.startswith(".manifest")}
    sweep(store)
    assert set(store.root.rglob("*")) == before


def test_a_run_leaves_nothing_of_a_run_that_was_killed(tmp_path: Path, store: Store) -> None:
    rows = [{"text": f"text {i}"} for i in range(20)]
    source = write_jsonl(tmp_path / "in.jsonl", [*rows, {"text": None}])
    config = local_config("engine.kind=hashing")
    (store.root / "data/.manifest.jsonl.77.tmp").touch()
    receipt = msgspec.structs.replace(RECEIPT, part="part-a-0000000000-0123456789abcdef.parquet")
    store.publish(receipt, TABLE, REJECTS, RECIPE)
    store.data_path(receipt.part).unlink()  # killed between the rejects and the part
    outcome = run(str(source), store, config, fan_out=fan_out_here(store))
    assert outcome.totals["rejected_rows"] == 1
    assert not temporaries(store)
    assert pq.read_table(store.root / "rejects").num_rows == 1


def test_another_process_is_locked_out_and_told_who_holds_the_output(store: Store) -> None:
    with held_elsewhere(store) as holder:
        assert store.is_locked()
        with pytest.raises(OutputLockedError) as refusal, store.lock():
            pass
        who = f"process {holder.pid} on host {socket.gethostname()}"
        assert str(refusal.value).startswith(f"another run holds {store.root}: {who}, since 20")
        assert re.search(r", since \d{4}-\d\d-\d\d \d\d:\d\d UTC; wait for it or stop it$", str(refusal.value))
        holder.communicate()
        with store.lock():
            assert store.is_locked()
    assert not store.is_locked()


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ('{"host": "vm", "pid": 13900, "boot": "b"}', "process 13900 on host vm; wait"),
        ('{"host": "vm", "pid": 13900, "boot": "b", "since": 43440}', "host vm, since 1970-01-01 12:04 UTC; wait"),
        ('{"host": "vm", "pid": 13900, "boot": "b", "since": 1e300}', "it has just started; wait"),
        ("", "it has just started; wait"),
        ("\xff{", "it has just started; wait"),
    ],
)
def test_the_holder_is_named_in_words_whatever_the_file_says(store: Store, named: str, words: str) -> None:
    path = store.root / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(named.encode("latin-1"))
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputLockedError) as refusal, store.lock():
            pass
    assert words in str(refusal.value)


def test_a_killed_holder_lets_go(store: Store) -> None:
    with held_elsewhere(store) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not store.is_locked()
        with store.lock():
            pass


def test_the_lock_is_let_go_when_the_run_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


def test_a_thread_of_a_run_that_was_stopped_writes_no_more(store: Store) -> None:
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    with pytest.raises(KeyboardInterrupt), store.lock():
        raise KeyboardInterrupt
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}
    with pytest.raises(OutputLockedError):
        store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()} == before
    with store.lock():
        store.publish(RECEIPT, TABLE, REJECTS, RECIPE)


def test_an_output_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file"), Store(root=tmp_path / "file").lock():
        pass


def test_vectors_lie_in_small_row_groups_without_dictionaries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.store.ROW_GROUP_BYTES", 1000)
    flat = pa.array(range(64 * 100), pa.int32()).cast(pa.float32()).cast(pa.float16())
    wide = pa.table({"id": [str(i) for i in range(100)], "embedding": pa.FixedSizeListArray.from_arrays(flat, 64)})
    store.publish(RECEIPT, wide, None, RECIPE)
    metadata = pq.read_metadata(store.data_path(RECEIPT.part))
    assert metadata.num_row_groups > 10
    column = metadata.row_group(0).column(1)
    assert (column.compression, column.has_dictionary_page) == ("ZSTD", False)


def test_on_volumes_nothing_is_flushed_but_by_a_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr("pipeline.files.os.fsync", flushed.append)
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    store.append(RUN)
    assert len(flushed) >= 5, "two files, their folders, the manifest"
    monkeypatch.setenv(VOLUMES_VARIABLE, "1")
    flushed.clear()
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    store.append(RUN)
    assert flushed == []
