"""What a power cut leaves: in which order a dataset is written, flushed and renamed. SIGKILL cannot show it, as the
system keeps what a dead process has written."""

from __future__ import annotations

import itertools
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pipeline.dataset.ours import discard
from pipeline.dataset.store import Store
from pipeline.dataset.transaction import Transaction
from pipeline.dataset.volume import LocalVolume
from pipeline.errors import OutputLockedError
from pipeline.files import append_file, open_file, publish_file
from tests.dataset.test_store import DATASET, MARK, RECEIPT, RECIPE, REJECTS, RUN, TABLE

NEW = msgspec.structs.replace(RECEIPT, part="part-b.parquet")
Steps = list[str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(root=tmp_path / "out")
    with store.lock():
        store.rewrite_manifest([DATASET])
    return store


@pytest.fixture
def steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Return what is flushed, renamed and removed below the output from now on; what is flushed with its bytes."""
    found: Steps = []

    def named(path: str | Path) -> str:
        name = os.path.relpath(path, store.root)
        return name.replace(f".{os.getpid()}.tmp", ".tmp").replace(MARK, "f")

    def watch(call: str, told: Callable[..., str]) -> None:
        real = getattr(os, call)

        def watched(*arguments: object, **options: object) -> object:
            found.append(f"{call} {told(*arguments)}")
            return real(*arguments, **options)

        monkeypatch.setattr(os, call, watched)

    def flushed(descriptor: int) -> str:
        name, found = named(Path(f"/proc/self/fd/{descriptor}").readlink()), os.fstat(descriptor)
        return name if stat.S_ISDIR(found.st_mode) else f"{name} {found.st_size}"

    watch("fsync", flushed)
    for call in ("rename", "replace"):
        watch(call, lambda path, to: f"{named(path)} {named(to)}")
    for call in ("remove", "unlink"):
        watch(call, lambda path: named(path))
    return found


def published(store: Store, path: str) -> Steps:
    """Return how a file was published: it was whole before it had its name, and had it before anything else."""
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.tmp".lstrip("/")
    return [
        f"fsync {temporary} {(store.root / path).stat().st_size}",
        f"replace {temporary} {path}",
        f"fsync {folder or '.'}",
        f"unlink {temporary}",  # gone by then, unless something failed
    ]


def test_a_part_is_flushed_then_named_then_its_folder_is_flushed_and_its_rejects_come_first(
    store: Store, steps: Steps
) -> None:
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    assert steps == [*published(store, "rejects/part-a.parquet"), *published(store, "data/part-a.parquet")]


def test_a_line_is_flushed_before_its_writer_goes_on(store: Store, steps: Steps) -> None:
    store.append(RECEIPT)
    assert steps == [f"fsync manifest.jsonl {store.manifest_path.stat().st_size}"]


def test_the_manifest_is_flushed_before_it_takes_the_place_of_the_old_one(store: Store, steps: Steps) -> None:
    store.rewrite_manifest([DATASET, RUN])
    assert steps == published(store, "manifest.jsonl")


def staged(store: Store) -> Transaction:
    """Return a change in which a part with rejects and two without wait for an old one's place."""
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    change = Transaction(store=store, dataset=DATASET, replaces=True)
    change.staging.publish(NEW, TABLE, REJECTS, RECIPE)
    for part in ("part-c.parquet", "part-d.parquet"):
        change.staging.publish(msgspec.structs.replace(NEW, part=part), TABLE, None, RECIPE)
    return change


def test_a_swap_flushes_the_new_parts_before_the_manifest_and_the_manifest_before_the_old_go(
    store: Store, steps: Steps
) -> None:
    change = staged(store)
    steps.clear()
    change.commit(RUN, [NEW], [], new=["part-b.parquet", "part-c.parquet"], old=[RECEIPT.part])
    assert steps[: steps.index("unlink rejects/part-a.parquet") + 1] == [
        *published(store, "rejects/part-b.parquet"),
        "replace .next/f/data/part-b.parquet data/part-b.parquet",
        "unlink rejects/part-c.parquet",
        "replace .next/f/data/part-c.parquet data/part-c.parquet",
        "fsync data",
        *published(store, "manifest.jsonl"),
        "unlink data/part-a.parquet",
        "unlink rejects/part-a.parquet",
    ]


def test_a_run_that_only_removes_says_so_before_it_does(store: Store, steps: Steps) -> None:
    store.publish(RECEIPT, TABLE, None, RECIPE)
    change = Transaction(store=store, dataset=DATASET, replaces=False)
    steps.clear()
    change.commit(RUN, [], [], new=[], old=[RECEIPT.part])
    assert steps == [
        f"fsync manifest.jsonl {store.manifest_path.stat().st_size}",
        "unlink data/part-a.parquet",
        "unlink rejects/part-a.parquet",
    ]


def test_what_a_repair_drops_has_left_its_folder_when_it_goes_on(store: Store, steps: Steps) -> None:
    store.publish(RECEIPT, TABLE, REJECTS, RECIPE)
    steps.clear()
    discard(store, RECEIPT.part)
    assert steps == [
        "replace data/part-a.parquet .trash/data/part-a.parquet",
        "fsync data",
        "replace rejects/part-a.parquet .trash/rejects/part-a.parquet",
        "fsync rejects",
    ]


def test_a_swap_asks_before_each_part_whether_the_output_is_still_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, real = staged(store), Path.replace

    def lose(path: Path, to: Path) -> Path:
        (store.root / ".lock").unlink(missing_ok=True)
        return real(path, to)

    def swap_and_lose() -> None:
        monkeypatch.setattr(Path, "replace", lose)
        change.commit(RUN, [], [], new=["part-c.parquet", "part-d.parquet"], old=[])

    with pytest.raises(OutputLockedError), store.lock():
        swap_and_lose()
    assert store.data_path("part-c.parquet").exists()
    assert not store.data_path("part-d.parquet").exists()


class Announced:
    """The lock of all who write, which tells that the main thread waits for it."""

    def __init__(self) -> None:
        self.lock, self.is_awaited = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.is_awaited.set()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_an_output_is_held_until_no_part_is_half_published(tmp_path: Path) -> None:
    """A thread may be publishing when the run that it is of fails."""
    writing, has_begun = Announced(), threading.Event()
    store = Store(root=tmp_path / "out", volume=LocalVolume(writing=writing))  # type: ignore[arg-type]
    said: list[str] = []

    def publish() -> None:
        with writing:
            has_begun.set()
            writing.is_awaited.wait()
            said.append((store.root / ".lock").read_text())

    def fail() -> None:
        said.append((store.root / ".lock").read_text())
        writer.start()
        has_begun.wait()
        raise ZeroDivisionError

    writer = threading.Thread(target=publish)
    with pytest.raises(ZeroDivisionError), store.lock():
        fail()
    writing.is_awaited.set()
    writer.join()
    assert said[0] == said[1] != ""


def test_a_link_that_comes_after_the_look_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    monkeypatch.setattr("pipeline.files.kind_of", lambda path: "")  # what it was a moment ago
    for mode in ("rb", "wb", "ab", "a+b"):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            open_file(tmp_path / "link", mode)
    assert (tmp_path / "precious").read_text() == "mine"


def test_an_output_that_is_deleted_after_the_check_is_not_made_again(tmp_path: Path) -> None:
    """A run may be stopped between any two steps: here after it has looked whether it holds the output still."""
    output = tmp_path / "out"
    kept = n_checks = 0

    def check() -> None:
        nonlocal n_checks
        n_checks += 1
        if not output.exists():
            raise OutputLockedError("gone")
        if n_checks == kept:
            output.rmdir()

    for write, last in itertools.product((publish_file, append_file), (1, 2)):
        output.mkdir()
        kept, n_checks = last, 0
        with pytest.raises(OutputLockedError, match="gone"):
            write(output / "data/part", b"", check)
        assert not output.exists()
