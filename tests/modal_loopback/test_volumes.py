"""Volumes on the plane: what one container writes, others see after a commit and a reload."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from modal_proto import api_pb2 as api

from tests.modal_loopback import FailCommit, Loopback, Settings
from tests.modal_loopback.knobs import Faults
from tests.modal_loopback.mounts import Mounts
from tests.modal_loopback.plane import Plane
from tests.modal_loopback.seen import ContainerSeen, Seen
from tests.modal_loopback.volumes import Copy, Volume
from tests.support.plane import APPS, DESKS, Ask, asking, eventually, modal, needs_plane

pytestmark = needs_plane


def test_changes_show_elsewhere_only_after_commit_and_reload(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        DESKS
        + """
b.read.remote("/desk/a.txt")  # so that b's copy is older than what follows
a.write.remote("/desk/a.txt", "one")
answer = [a.read.remote("/desk/a.txt"), b.read.remote("/desk/a.txt")]
b.reload.remote()
answer.append(b.read.remote("/desk/a.txt"))
a.commit.remote()
answer.append(b.read.remote("/desk/a.txt"))
b.reload.remote()
answer.append(b.read.remote("/desk/a.txt"))
a.write.remote("/desk/deep/er.txt", "kept"); a.write.remote("/desk/x", "")
b.write.remote("/desk/b.txt", "two")
a.commit.remote(); b.commit.remote()
a.rename.remote("/desk/deep/er.txt", "/desk/moved.txt"); a.remove.remote("/desk/x"); a.commit.remote()
b.reload.remote()
answer.append([b.read.remote(p) for p in ("/desk/moved.txt", "/desk/deep/er.txt", "/desk/x", "/desk/b.txt")])
answer.append(Desk(name="new").read.remote("/desk/b.txt"))
""",
    )
    assert answer == ["one", None, None, None, "one", ["kept", None, None, "two"], "two"]
    assert sorted(plane.committed("desk")) == ["a.txt", "b.txt", "moved.txt"]


def test_reload_refuses_open_files_and_read_only_mounts_refuse_writes(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        DESKS
        + """
a.write.remote("/desk/a.txt", "one"); a.commit.remote()
answer = [a.reload_while_open.remote("/desk/a.txt"),
          modal.Function.from_name("work", "scribble").remote("/desk/no.txt")]
""",
    )
    assert answer == [
        "there are open files preventing the operation: a.txt",
        ["one", "Read-only file system"],
    ]


def test_failed_commit_raises_and_publishes_nothing(tmp_path: Path) -> None:
    # Nothing may commit in the background: it would publish what the failed commit left.
    settings = Settings(background_commit_s=None, secrets={"key": {"KEY": ""}})
    with Loopback(tmp_path, settings=settings) as plane, asking(plane) as ask:
        modal(plane, "deploy", f"{APPS}/work.py")
        plane.faults.add(FailCommit(on="desk", message="no space on the volume"))
        answer = ask(
            DESKS
            + """
a.write.remote("/desk/lost.txt", "one")
try:
    answer = a.commit.remote()
except RuntimeError as error:
    answer = str(error)
answer = [answer, Desk(name="fresh").read.remote("/desk/lost.txt")]
a.commit.remote()
answer.append(Desk(name="fresher").read.remote("/desk/lost.txt"))
"""
        )
        assert answer == ["no space on the volume", None, "one"]


def test_commits_of_two_containers_are_merged_file_by_file(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    volume = Volume(id="vo", name="v", version=1, created_s=0, store=store, max_files=100)
    one, two, reader = (
        Copy(volume=volume, path=tmp_path / name, read_only=name == "reader") for name in ("one", "two", "reader")
    )
    for copy in (one, two):
        copy.catch_up()
        (copy.path / "same.txt").write_text(copy.path.name)
        (copy.path / copy.path.name).mkdir()
        (copy.path / copy.path.name / "own.txt").write_text(copy.path.name)
    assert one.commit() == (("one", "one/own.txt", "same.txt"), ())
    reader.catch_up()
    assert two.commit() == (("same.txt", "two", "two/own.txt"), ())
    one.catch_up()
    shutil.rmtree(one.path / "two")
    assert one.commit() == ((), ("two", "two/own.txt"))
    reader.catch_up()
    shown = {str(p.relative_to(reader.path)): p.read_text() for p in reader.path.rglob("*.txt")}
    assert shown == {"same.txt": "two", "one/own.txt": "one"}
    assert reader.commit() == ((), ())


@pytest.mark.parametrize("version", [1, 2])
def test_volume_command_line(plane: Loopback, tmp_path: Path, version: int) -> None:
    data = os.urandom(9 << 20) + bytes(1 << 20)
    (tmp_path / "big.bin").write_bytes(data)
    name = f"cli-{version}"
    modal(plane, "volume", "create", name, f"--version={version}")
    modal(plane, "volume", "put", name, str(tmp_path / "big.bin"), "deep/big.bin")
    assert "deep/big.bin" in modal(plane, "volume", "ls", name, "deep")
    modal(plane, "volume", "get", name, "deep/big.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == data
    modal(plane, "volume", "rm", name, "deep/big.bin")
    assert plane.committed(name) == {}


def test_background_commits_publish_what_nobody_committed(tmp_path: Path) -> None:
    settings = Settings(background_commit_s=0.2, secrets={"key": {"KEY": "s3cret"}})
    with Loopback(tmp_path, settings=settings) as plane, asking(plane) as ask:
        modal(plane, "deploy", f"{APPS}/work.py")
        ask(DESKS + 'answer = a.write.remote("/desk/half.txt", "half")')
        eventually(lambda: "half.txt" in plane.committed("desk"))


def test_a_volume_is_empty_while_it_is_reloaded(tmp_path: Path) -> None:
    settings = Settings(reload_s=0.5, background_commit_s=None, secrets={"key": {"KEY": ""}})
    with Loopback(tmp_path, settings=settings) as plane, asking(plane) as ask:
        modal(plane, "deploy", f"{APPS}/work.py")
        answer = ask(
            DESKS
            + """
a.write.remote("/desk/top.txt", "one"); a.write.remote("/desk/deep/er.txt", "two"); a.commit.remote()
b.write.remote("/desk/own.txt", "three")
a.write.remote("/desk/top.txt", "four"); a.commit.remote()
answer = [b.look_while_reloading.remote("/desk/deep/er.txt", "/desk/deep/meanwhile.txt")]
answer.append([b.read.remote(f"/desk/{name}.txt") for name in ("top", "deep/er", "own", "deep/meanwhile")])
b.commit.remote()
"""
        )
        assert answer == [[True, False, True], ["four", "two", "three", "meanwhile"]]
        assert plane.seen.commits[-1].changed == ("deep/meanwhile.txt", "own.txt")
        assert plane.seen.errors == []


def test_a_commit_above_the_limit_of_files_fails_and_so_may_the_sync_of_a_folder(tmp_path: Path) -> None:
    settings = Settings(max_files=2, folders_sync=False, secrets={"key": {"KEY": ""}})
    with Loopback(tmp_path, settings=settings) as plane, asking(plane) as ask:
        modal(plane, "deploy", f"{APPS}/work.py")
        answer = ask(
            DESKS
            + """
a.write.remote("/desk/folder/a.txt", "one"); a.commit.remote()
a.write.remote("/desk/folder/b.txt", "two")
try:
    answer = a.commit.remote()
except RuntimeError as error:
    answer = str(error)
a.remove.remote("/desk/folder/a.txt"); a.commit.remote()
answer = [answer, a.sync.remote("/desk"), a.sync.remote("/desk/folder"), a.sync.remote("/tmp")]
"""
        )
        full = "[Errno 28] No space left on device: 'folder/b.txt'"
        assert answer == [full, "Invalid argument", "Invalid argument", "synced"]
        assert set(plane.committed("desk")) == {"folder/b.txt"}
        assert plane.seen.errors == []


@contextmanager
def mounts(folder: Path, version: int, **settings: Any) -> Iterator[tuple[Plane, Callable[[int], Mounts]]]:
    """Yield a plane with a volume, and what mounts it in a container of that number."""
    with asyncio.Runner() as runner:
        plane = Plane(folder, Settings(**settings), Faults(()), Seen(), runner.get_loop())
        plane.new_volume("vo-1", "desk", version)

        def mount(n: int) -> Mounts:
            seen = ContainerSeen(task_id=f"ta-{n}", app="", function="", function_id="", gpu="", started_s=0)
            made = Mounts(plane, seen, folder / f"{n}")
            made.add(api.Function(volume_mounts=[api.VolumeMount(volume_id="vo-1", mount_path="/desk")]))
            return made

        yield plane, mount


@pytest.mark.parametrize(("version", "at_once"), [(1, 5), (2, 8)])
def test_a_commit_takes_its_time_and_five_of_a_volume_go_on_at_once(tmp_path: Path, version: int, at_once: int) -> None:
    with mounts(tmp_path, version, commit_s=0.05, commit_s_per_file=0.01) as (plane, mount):

        async def commit(n: int) -> None:
            mine = mount(n)
            (copy,) = mine.copies.values()
            (copy.path / f"{n}.txt").touch()
            await mine.commit(copy)

        async def commit_all() -> None:
            await asyncio.gather(*map(commit, range(8)))

        began = time.monotonic()
        plane.loop.run_until_complete(commit_all())
        assert time.monotonic() - began > 0.05
        assert plane.seen.max_commits == {"desk": at_once}
        assert len(plane.volumes["vo-1"].head) == 8


def test_a_folder_of_a_volume_of_version_2_has_a_limit_of_its_own(tmp_path: Path) -> None:
    with mounts(tmp_path, 2, max_files_in_folder=2, max_files=0) as (plane, mount):
        mine = mount(0)
        (copy,) = mine.copies.values()
        for name in ("a/1", "a/2", "b/1", "b/2"):
            (copy.path / name).parent.mkdir(exist_ok=True)
            (copy.path / name).touch()
        plane.loop.run_until_complete(mine.commit(copy))
        (copy.path / "a/3").touch()
        with pytest.raises(OSError, match="No space left on device: 'a/3'"):
            plane.loop.run_until_complete(mine.commit(copy))
        (copy.path / "b/1").unlink()
        (copy.path / "a/3").rename(copy.path / "b/3")
        plane.loop.run_until_complete(mine.commit(copy))
        assert len(plane.volumes["vo-1"].head) == 6


def test_dates_of_committed_files_are_whole_seconds(tmp_path: Path) -> None:
    with mounts(tmp_path, 1) as (plane, mount):
        writer = mount(0)
        (copy,) = writer.copies.values()
        (copy.path / "a.txt").touch()
        os.utime(copy.path / "a.txt", ns=(0, 1_999_999_999))
        plane.loop.run_until_complete(writer.commit(copy))
        [reader] = mount(1).copies.values()
        dates = [(each.path / "a.txt").stat().st_mtime_ns for each in (copy, reader)]
        assert dates == [1_999_999_999, 1_000_000_000]
