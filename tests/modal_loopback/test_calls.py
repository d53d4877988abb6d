"""The plane runs what is called: each test runs the unmodified Modal client against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.modal_loopback import Loopback
from tests.support.plane import APPS, Ask, eventually, modal, needs_plane

pytestmark = needs_plane


def test_run_with_class_map_and_volume(tmp_path: Path) -> None:
    with Loopback(tmp_path) as plane:
        output = modal(plane, "run", f"{APPS}/basic.py", "--n", "7")
        assert "on disk 91" in output
        assert "total 91" in output
        assert plane.seen.inputs_finished == {"driver": 1, "Writer.write": 7}
        assert sorted(plane.committed("basic-output")) == [f"{n}.txt" for n in range(7)]
        eventually(lambda: not any((tmp_path / "containers").iterdir()))
        assert plane.seen.errors == []


def test_from_name_remote_map_and_exceptions(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        square = modal.Function.from_name("work", "square")
        nap = modal.Function.from_name("work", "nap")
        mixed = list(square.map([1, "x", 3], return_exceptions=True))
        answer = [square.remote(5), list(square.map(range(60))), type(mixed[1]).__name__, mixed[2],
                  sorted(square.map(range(5), order_outputs=False)), list(nap.starmap([(0.0,)]))]
        """,
    )
    assert answer == [25, [n * n for n in range(60)], "TypeError", 9, [0, 1, 4, 9, 16], [0.0]]


def test_spawn_get_from_id_and_poll(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        call = modal.Function.from_name("work", "nap").spawn(0.5)
        try:
            early = call.get(timeout=0)
        except TimeoutError:
            early = "not yet"
        again = modal.FunctionCall.from_id(call.object_id)
        answer = [early, again.get(), again.get(), again.num_inputs()]
        """,
    )
    assert answer == ["not yet", 0.5, 0.5, 1]


def test_class_parameters_hooks_and_options_have_their_own_pools(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        Model = modal.Cls.from_name("work", "Model")
        wide = Model.with_options(gpu="L40S", max_containers=3)
        answer = [Model().run.remote(), Model(size=7).run.remote(), list(wide(size=2).run.map([0.5] * 6))]
        """,
    )
    assert answer[:2] == [[1, ["load", "wake"]], [7, ["load", "wake"]]]
    assert answer[2] == [[2, ["load", "wake"]]] * 6
    assert len({container.function_id for container in plane.seen.of("Model")}) == 3
    assert plane.seen.max_containers["Model"] == 3


def test_max_containers_is_never_exceeded(plane: Loopback, ask: Ask) -> None:
    before = len(plane.seen.of("nap"))
    ask('answer = list(modal.Function.from_name("work", "nap").map([0.05] * 20))')
    assert plane.seen.max_containers["nap"] == 1
    assert len(plane.seen.of("nap")) <= before + 1


def test_concurrent_inputs_overlap_in_one_container(plane: Loopback, ask: Ask) -> None:
    spans = ask('answer = list(modal.Cls.from_name("work", "Pair")().nap.map([0.4, 0.4]))')
    assert max(began for began, _ in spans) < min(ended for _, ended in spans)
    assert (plane.seen.max_inputs["Pair.nap"], plane.seen.max_containers["Pair"]) == (2, 1)


def test_idle_containers_leave_after_their_exit_hook(plane: Loopback, ask: Ask) -> None:
    ask('answer = modal.Cls.from_name("work", "Model")(size=40).run.remote()')
    last = plane.seen.of("Model")[-1]
    assert eventually(lambda: last.ended_s) - last.started_s >= 0.2  # 2 s of scaledown, scaled by 0.1
    assert (last.why, last.exit_code) == ("idle", 0)
    assert "model 40 closes" in modal(plane, "app", "logs", "work")


def test_autoscaler_update(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        square = modal.Function.from_name("work", "square")
        answer = [square.autoscaler.settings().max_containers,
                  square.autoscaler.update(max_containers=2).max_containers,
                  square.autoscaler.update(max_containers=1).max_containers]
        """,
    )
    assert answer == [1, 2, 1]


def test_retries_of_remote_and_of_spawn(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        flaky = modal.Function.from_name("work", "fail_twice")
        answer = [flaky.remote("a"), flaky.spawn("b").get(), list(flaky.map(["c", "d"]))]
        """,
    )
    assert answer == [3, 3, [3, 3]]


def test_timeout(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        try:
            answer = modal.Function.from_name("work", "too_slow").remote()
        except modal.exception.FunctionTimeoutError as error:
            answer = str(error)
        """,
    )
    assert answer == "too_slow exceeded its timeout of 1 s"


def test_cancel_interrupts_the_input(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        nap = modal.Function.from_name("work", "nap")
        nap.remote(0)
        call = nap.spawn(300)
        while nap.get_current_stats().num_running_inputs == 0:
            time.sleep(0.02)
        call.cancel()
        try:
            answer = call.get()
        except modal.exception.RemoteError as error:
            answer = str(error)
        answer = [answer, nap.remote(0.01)]
        """,
    )
    assert answer == ["cancelled by the user", 0.01]


def test_schedule_ticks_with_secret_env_and_logs(plane: Loopback, ask: Ask) -> None:
    assert [(s.app, s.function, s.cron, s.timezone) for s in plane.schedules()] == [
        ("work", "nightly", "0 6 * * *", "Europe/Berlin")
    ]
    call_id = plane.tick("work", "nightly")
    assert plane.wait(call_id).status == "SUCCESS"
    answer = ask(f'answer = modal.FunctionCall.from_id("{call_id}").get()')
    assert answer == {"KEY": "s3cret", "COLOUR": "red", "GREETING": "good day"}
    assert "nightly ran" in modal(plane, "app", "logs", "work", "--function-call", call_id)
    with pytest.raises(LookupError, match="no deployed app 'work' has a function 'square' with a schedule"):
        plane.tick("work", "square")


def test_spawned_work_goes_on_and_continues_itself_without_its_caller(plane: Loopback, ask: Ask) -> None:
    finished = plane.seen.inputs_finished["relay"]
    ask('modal.Function.from_name("work", "relay").spawn(2); answer = None')
    eventually(lambda: plane.seen.inputs_finished["relay"] == finished + 3)


def test_dict_as_a_lock(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        lock = modal.Dict.from_name("lock", create_if_missing=True)
        answer = [lock.put("k", 1, skip_if_exists=True), lock.put("k", 2, skip_if_exists=True), lock["k"],
                  "k" in lock, lock.pop("k"), "k" in lock, lock.get("k", "gone"), lock.len()]
        """,
    )
    assert answer == [True, False, 1, True, 1, False, "gone", 0]


def test_payload_sizes_are_seen_inline_and_as_blobs(plane: Loopback, ask: Ask) -> None:
    ask('answer = list(modal.Function.from_name("work", "square").map([2]))')
    assert max(plane.seen.sizes("input", "square")) < 200
    ask(
        """
        Desk = modal.Cls.from_name("work", "Desk")
        Desk(name="big").write.remote("/tmp/big", "x" * 3_000_000)
        answer = Desk(name="big").read.remote("/tmp/big") == "x" * 3_000_000
        """,
    )
    big = [p for p in plane.seen.payloads if p.size_bytes > 3_000_000]
    assert {(p.function, p.direction, p.blob) for p in big} == {
        ("Desk.write", "input", True),
        ("Desk.read", "output", True),
    }
    assert plane.seen.peak_rss_bytes("Desk") > 20_000_000
