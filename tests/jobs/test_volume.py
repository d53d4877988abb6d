"""The output volume on Modal: an output has one holder, whatever happened to the one before."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest

from jobs import resources
from jobs.volume import ModalVolume, OutputLock, progress_in
from pipeline.chunk import Shard, Span
from pipeline.console import Progress
from pipeline.dataset.lock import BEAT_S, STALE_S
from pipeline.dataset.manifest import Run
from pipeline.dataset.store import Store
from pipeline.dataset.volume import Attempt
from pipeline.errors import OutputLockedError
from tests.support import one_span


class Shared:
    """What modal.Dict promises of itself: each call is one atomic step."""

    def __init__(self) -> None:
        self.entries: dict[Any, Any] = {}
        self._step = threading.Lock()

    def put(self, key: str, value: Any, *, skip_if_exists: bool = False) -> bool:
        with self._step:
            if skip_if_exists and key in self.entries:
                return False
            self.entries[key] = value
            return True

    def get(self, key: str) -> Any:
        with self._step:
            return self.entries.get(key)

    def pop(self, key: str, default: Any = None) -> Any:
        with self._step:
            return self.entries.pop(key, default)

    def items(self) -> Iterable[tuple[Any, Any]]:
        return list(self.entries.items())


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Shared:
    shared = Shared()
    monkeypatch.setattr(resources, "locks", shared)
    monkeypatch.setattr(resources, "attempts", shared)
    return shared


def test_a_held_output_is_refused_with_its_holder_and_free_afterwards(shared: Shared) -> None:
    with OutputLock("wiki").hold():
        owner = shared.entries["wiki"]["owner"]
        with (
            pytest.raises(OutputLockedError, match=f"another run holds it .call {owner}"),
            OutputLock("wiki").hold(),
        ):
            pass
        with OutputLock("books").hold():
            pass
    assert shared.entries == {}


@pytest.mark.parametrize("n_rivals", [1, 2, 8])
def test_a_dead_holder_is_followed_by_exactly_one(monkeypatch: pytest.MonkeyPatch, n_rivals: int) -> None:
    """All have seen the dead one before any of them writes."""
    everyone, has_looked = threading.Barrier(n_rivals, timeout=30), threading.local()

    class SeenByAll(Shared):
        def get(self, key: str) -> Any:
            found = super().get(key)
            if not hasattr(has_looked, "yes"):
                has_looked.yes = True
                everyone.wait()
            return found

    shared = SeenByAll()
    monkeypatch.setattr(resources, "locks", shared)
    shared.entries["wiki"] = {"owner": "dead", "beat_at": time.time() - STALE_S - 1}
    held = threading.Event()

    def rival() -> bool:
        try:
            with OutputLock("wiki").hold():
                return held.wait(30)  # until all others have tried
        except OutputLockedError:
            return False

    with ThreadPoolExecutor(n_rivals) as pool:
        tries = [pool.submit(rival) for _ in range(n_rivals)]
        losers = itertools.islice(as_completed(tries, timeout=30), n_rivals - 1)
        assert not any(one.result() for one in losers)
        held.set()
        assert sum(one.result() for one in tries) == 1
    assert shared.entries == {}


@pytest.mark.parametrize(("silent_s", "is_lost"), [(BEAT_S, False), (STALE_S - BEAT_S, True), (STALE_S + 1, True)])
def test_a_holder_that_cannot_beat_ends_before_another_may_follow(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, silent_s: float, is_lost: bool
) -> None:
    def unreachable(key: str) -> Any:
        raise OSError("no route")

    now, ours = time.time, OutputLock("wiki")
    with ours.hold(), monkeypatch.context() as patch:
        patch.setattr(shared, "get", unreachable)
        patch.setattr("time.time", lambda: now() + silent_s)
        with pytest.raises(OutputLockedError, match="took it over") if is_lost else contextlib.nullcontext():
            ours.check_held()


def test_a_call_that_was_preempted_ends_once_its_successor_has_begun(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seconds to live, and is heard of all that time."""
    monkeypatch.setattr("modal.current_function_call_id", lambda: "fc-1")
    monkeypatch.setenv("MODAL_TASK_ID", "ta-1")
    first = OutputLock("wiki")
    with contextlib.ExitStack() as stack:
        stack.enter_context(first.hold())
        monkeypatch.setenv("MODAL_TASK_ID", "ta-2")
        with OutputLock("wiki").hold():
            first._beat()
            with pytest.raises(OutputLockedError, match="took it over"):
                first.check_held()
            stack.close()
            assert shared.entries["wiki"]["container"] == "ta-2"
    assert shared.entries == {}


def test_a_call_that_was_restarted_takes_its_own_lock_over(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modal.current_function_call_id", lambda: "fc-1")
    shared.entries["wiki"] = {"owner": "fc-1", "beat_at": time.time()}
    with OutputLock("wiki").hold():
        assert shared.entries["wiki"]["owner"] == "fc-1"


def test_a_holder_that_was_taken_over_hears_of_it_and_leaves_the_lock_alone(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.dataset.lock.BEAT_S", 0.01)
    ours = OutputLock("wiki")

    def go_on() -> None:
        for rows in range(1000):
            shared.put("wiki", {"owner": "other", "beat_at": time.time()})
            ours.show(Progress(rows=rows))
            ours.check_held()
            threading.Event().wait(0.01)

    with ours.hold(), pytest.raises(OutputLockedError, match="took it over"):
        go_on()
    assert shared.entries["wiki"]["owner"] == "other"


@pytest.mark.parametrize(("ahead_s", "is_held"), [(0, True), (STALE_S - 10, True), (STALE_S + 10, False), (1e8, False)])
def test_a_beat_in_the_future_is_none(shared: Shared, ahead_s: float, is_held: bool) -> None:
    shared.entries["wiki"] = {"owner": "other", "beat_at": time.time() + ahead_s}
    with contextlib.ExitStack() as stack:
        if is_held:
            stack.enter_context(pytest.raises(OutputLockedError, match="call other"))
        stack.enter_context(OutputLock("wiki").hold())


def test_a_container_that_was_frozen_writes_nothing_before_it_has_asked(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No beat has come yet when it goes on."""
    now = time.time
    volume = ModalVolume()
    store = Store(root=resources.OUTPUT / "wiki", volume=volume)
    run = Run(state="complete", input="in", started_at=1.0)
    with volume.hold(store.root):
        volume.check_held()
        monkeypatch.setattr("time.time", lambda: now() + STALE_S + 1)
        volume.check_held()  # nobody came
        shared.put("wiki", {"owner": "other", "beat_at": time.time()})
        monkeypatch.setattr("time.time", lambda: now() + 2 * STALE_S + 2)
        writes: list[Callable[[], None]] = [
            lambda: store.append(run),
            lambda: store.rewrite_manifest([run]),
            lambda: store.staging("f").append(run),
            store.commit,
        ]
        for write in writes:
            with pytest.raises(OutputLockedError, match="took it over"):
                write()
    assert shared.entries["wiki"]["owner"] == "other"
    assert not store.root.exists()


def test_an_entry_that_is_another_run_s_by_now_stays(shared: Shared) -> None:
    with OutputLock("wiki").hold():
        shared.put("wiki", {"owner": "other", "beat_at": time.time()})
    assert shared.entries["wiki"]["owner"] == "other"


def test_a_container_of_the_service_holds_nothing_and_writes(shared: Shared) -> None:
    volume = ModalVolume()
    volume.lock(resources.OUTPUT / "wiki")
    volume.check_held()
    assert shared.entries == {}


def test_how_far_the_run_is_stands_in_the_entry(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dataset.lock.BEAT_S", 0.01)
    ours = OutputLock("wiki")
    with ours.hold():
        ours.show(Progress(rows=7, tokens=99))
        while progress_in(shared.get("wiki")) != Progress(rows=7, tokens=99):
            threading.Event().wait(0.01)
    assert progress_in(shared.get("wiki")) is None
    assert progress_in({"owner": "of an earlier version", "rows": 7}) is None


def test_a_volume_locks_an_output_by_its_name_and_keeps_its_attempts_apart(shared: Shared) -> None:
    volume, root = ModalVolume(), resources.OUTPUT / "wiki/en"
    with volume.hold(root), pytest.raises(OutputLockedError, match=r"^output wiki/en: "), ModalVolume().hold(root):
        pass
    assert shared.entries == {}
    chunk = one_span(Shard(source="a", size_bytes=1, mtime_ns=1), Span(row_start=0, row_stop=1), "f", last=True)
    attempts = volume.attempts(root)
    attempts.put(chunk, 2)
    assert shared.entries[("wiki/en", chunk.id)]["deaths"] == 2  # what a service of older code reads
    assert attempts.read() == [Attempt(chunk=chunk, deaths=2)]
    assert volume.attempts(resources.OUTPUT / "wiki").read() == []
    attempts.put(chunk, 0)
    assert shared.entries == {}
