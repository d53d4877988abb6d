"""Two runs at one output: whatever happened to the lock, one of them ends with exit code 4 and the other's word is
true."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.chunk import Shard, Span
from pipeline.dataset import lock
from pipeline.dataset.store import Store
from pipeline.dataset.transaction import save_prefilled
from pipeline.dataset.volume import LocalVolume
from pipeline.errors import OutputLockedError
from tests.dataset.test_ours import tree
from tests.dataset.test_store import RECEIPT, RECIPE, REJECTS, TABLE
from tests.support import HASHING, embed_corpus, ids, one_span, texts, write_jsonl
from tests.support.sabotage import FakedCommand

N_ROWS = 400
CHUNK_ROWS = 20
DEADLINE_S = 120
SETTINGS = (*HASHING, "--set", f"run.chunk_tokens={CHUNK_ROWS * 13}")
SLOW = "time.sleep(0.4 * (len(token_ids) > 1))"
# As on a shared file system: the other machine's flock is not seen, and its boot is another one.
ELSEWHERE = """
import fcntl
from pipeline.dataset import lock
lock.fcntl = type("unshared", (), {**vars(fcntl), "flock": staticmethod(lambda *_: None)})
lock._boot = lambda: "another machine"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "in/a.jsonl", texts(N_ROWS))


@contextlib.contextmanager
def at_work(faked: FakedCommand, source: Path, output: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a run, and yield when it has published parts."""
    with faked.start("run", "--input", source, "--output", output, *SETTINGS) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while len([*(output / "data").glob("part-*")]) < 2:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit code and the words with which a run ends by itself."""
    _, error = process.communicate(timeout=DEADLINE_S)
    return process.returncode, error


def check_whole(output: Path, source: Path) -> None:
    """Expect a dataset that a rerun has nothing to add to."""
    again = embed_corpus("run", "--input", source, "--output", output, *SETTINGS)
    assert again.returncode == 0, again.stderr
    assert "embedded 0 texts" in again.stdout
    assert sorted(ids(output)) == sorted(row["id"] for row in texts(N_ROWS))
    verified = embed_corpus("verify", output, "--input", source)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def remove_lock(output: Path) -> None:
    (output / ".lock").unlink()


def move_away(output: Path) -> None:
    output.rename(output.with_name("elsewhere"))


@pytest.mark.parametrize("meanwhile", [remove_lock, move_away])
def test_a_run_whose_lock_was_deleted_or_whose_output_was_moved_ends_before_it_writes(
    tmp_path: Path, source: Path, meanwhile: Callable[[Path], None]
) -> None:
    faked, output = FakedCommand(tmp_path / "faked", SLOW), tmp_path / "out"
    with at_work(faked, source, output) as first:
        first.send_signal(signal.SIGSTOP)
        n_lost = faked.embedded() if meanwhile is move_away else 2 * CHUNK_ROWS
        meanwhile(output)
        faked.engine()
        second = faked.run(source, output, *SETTINGS[2:])
        assert second.returncode == 0, second.stderr
        after = tree(output)
        first.send_signal(signal.SIGCONT)
        code, error = end(first)
    assert (code, len(error.splitlines())) == (4, 1), error
    assert "another run has taken it over" in error
    assert tree(output) == after
    check_whole(output, source)
    assert faked.embedded() <= N_ROWS + n_lost + 2 * CHUNK_ROWS


def test_a_run_whose_output_is_gone_ends_and_does_not_make_it_again(tmp_path: Path, source: Path) -> None:
    faked, output = FakedCommand(tmp_path / "faked", SLOW), tmp_path / "out"
    with at_work(faked, source, output) as process:
        process.send_signal(signal.SIGSTOP)
        shutil.rmtree(output)
        process.send_signal(signal.SIGCONT)
        code, error = end(process)
    assert code == 4
    assert "it was deleted, or the folder was moved" in error
    assert not output.exists(), sorted(output.rglob("*"))


def test_a_holder_on_another_machine_that_slept_too_long_ends_when_it_wakes(tmp_path: Path, source: Path) -> None:
    elsewhere, here = FakedCommand(tmp_path / "a", SLOW, before=ELSEWHERE), FakedCommand(tmp_path / "b")
    output = tmp_path / "out"
    with at_work(elsewhere, source, output) as first:
        first.send_signal(signal.SIGSTOP)
        refused = here.run(source, output, *SETTINGS[2:])
        assert refused.returncode == 4, refused.stderr
        assert f"another run holds {output}: process {first.pid} on host " in refused.stderr
        long_ago = time.time() - lock.STALE_S - 5
        os.utime(output / ".lock", (long_ago, long_ago))
        second = here.run(source, output, *SETTINGS[2:])
        assert second.returncode == 0, second.stderr
        after = tree(output)
        first.send_signal(signal.SIGCONT)
        code, error = end(first)
    assert (code, len(error.splitlines())) == (4, 1), error
    assert tree(output) == after
    check_whole(output, source)
    assert elsewhere.embedded() + here.embedded() <= N_ROWS + 4 * CHUNK_ROWS


@pytest.mark.parametrize(
    ("ahead_s", "code"), [(lock.STALE_S - 20, 4), (lock.STALE_S + 20, 0), (365 * 86_400, 0), (-3600, 0)]
)
def test_a_lock_with_a_date_in_the_future_is_held_by_nobody(
    tmp_path: Path, source: Path, ahead_s: float, code: int
) -> None:
    path = tmp_path / "out/.lock"
    path.parent.mkdir()
    path.write_text('{"host": "elsewhere", "pid": 7, "boot": "another"}')
    os.utime(path, (time.time() + ahead_s,) * 2)
    assert Store(root=path.parent).is_locked() == (code == 4)
    with contextlib.ExitStack() as stack:
        if code:
            stack.enter_context(pytest.raises(OutputLockedError, match="elsewhere"))
        stack.enter_context(Store(root=path.parent).lock())


WRITES: dict[str, Callable[[Store], object]] = {
    "a part": lambda store: store.publish(RECEIPT, TABLE, REJECTS, RECIPE),
    "a line": lambda store: store.append(RECEIPT),
    "the manifest": lambda store: store.rewrite_manifest([RECEIPT]),
    "a removal": lambda store: store.remove(RECEIPT.part),
    "a commit": lambda store: store.commit(),
    "a staged part": lambda store: store.staging("f").without_commits().publish(RECEIPT, TABLE, None, RECIPE),
    "kept vectors": lambda store: save_prefilled(store.staging("f"), "c", TABLE),
    "an attempt": lambda store: store.volume.attempts(store.root).put(
        one_span(Shard(source="a", size_bytes=1, mtime_ns=1), Span(row_start=0, row_stop=1), "f", last=True), 1
    ),
    "nothing more": lambda store: None,
}


def everything(output: Path) -> dict[str, bytes | None]:
    """Return what is in an output, the lock included."""
    return tree(output) | {path.name: path.read_bytes() for path in output.glob(".lock")}


def taken_over(path: Path) -> None:
    path.write_text('{"host": "elsewhere", "pid": 7, "boot": "another"}')


def replaced(path: Path) -> None:
    text = path.read_bytes()
    path.unlink()
    path.write_bytes(text)


@pytest.mark.parametrize("lose", [taken_over, replaced, Path.unlink, lambda path: path.write_text("")])
@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_once_the_lock_is_lost(tmp_path: Path, lose: Callable[[Path], object], write: str) -> None:
    store = Store(root=tmp_path / "out", volume=LocalVolume())
    before: dict[str, bytes | None] = {}

    def lose_and_write() -> None:
        lose(store.root / ".lock")
        before.update(everything(store.root))
        WRITES[write](store)

    with pytest.raises(OutputLockedError, match="this run has stopped"), store.lock():
        lose_and_write()
    assert everything(store.root) == before


def test_a_beat_touches_no_lock_but_its_own(tmp_path: Path) -> None:
    with lock.flock(tmp_path) as hold:
        path = tmp_path / ".lock"
        os.utime(path, (0, 0))
        hold.beat()
        assert path.stat().st_mtime > 0
        path.unlink()
        taken_over(path)
        os.utime(path, (0, 0))
        hold.beat()
        assert path.stat().st_mtime == 0
    assert "elsewhere" in path.read_text()
