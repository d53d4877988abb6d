"""Faults on the plane happen when a rule says so, and the client sees what Modal would let it see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.modal_loopback import DelayAnswer, DropResult, KillAtInput, Loopback, PreemptAtInput, Settings
from tests.support import REPOSITORY
from tests.support.plane import APPS, Ask, asking, eventually, modal, needs_plane

pytestmark = needs_plane


def test_killed_at_the_nth_input_the_map_still_completes(plane: Loopback, ask: Ask) -> None:
    plane.faults.add(rule := KillAtInput(on="square", nth=3))
    started = plane.seen.inputs_started["square"]
    assert ask('answer = list(modal.Function.from_name("work", "square").map(range(6)))') == [
        0,
        1,
        4,
        9,
        16,
        25,
    ]
    assert plane.faults.fired[-1] is rule
    assert plane.seen.inputs_started["square"] == started + 7
    assert "fault" in [container.why for container in plane.seen.of("square")]


def test_lost_result_makes_the_work_run_again(plane: Loopback, ask: Ask) -> None:
    plane.faults.add(DropResult(on="square", nth=2), DropResult(on="nap", kill=False))
    started = plane.seen.inputs_started["square"], plane.seen.inputs_started["nap"]
    answer = ask(
        """
        answer = [list(modal.Function.from_name("work", "square").map(range(4))),
                  modal.Function.from_name("work", "nap").remote(0.01)]
        """,
    )
    assert answer == [[0, 1, 4, 9], 0.01]
    assert plane.seen.inputs_started["square"] == started[0] + 5
    assert plane.seen.inputs_started["nap"] == started[1] + 2


def test_driver_killed_in_mid_map_runs_again(plane: Loopback, ask: Ask) -> None:
    plane.faults.add(KillAtInput(on="driver", after_s=1.0), DelayAnswer(on="FunctionPutOutputs", seconds=2.0))
    calls = plane.seen.rpcs["FunctionMap"]
    assert ask('answer = modal.Function.from_name("work", "driver").remote(5)') == [0, 1, 4, 9, 16]
    assert plane.seen.rpcs["FunctionMap"] == calls + 3


def test_preempted_input_runs_again_after_the_exit_hook(plane: Loopback, ask: Ask) -> None:
    plane.faults.add(PreemptAtInput(on="Model", after_s=3.0, grace_s=10))
    n_before = len(plane.seen.of("Model"))
    answer = ask('answer = modal.Cls.from_name("work", "Model")(size=50).run.remote(8.0)')
    assert answer == [50, ["load", "wake"]]
    first, second = plane.seen.of("Model")[n_before:]
    assert first.why == "preempted"
    assert (first.inputs, second.inputs) == (1, 1)
    assert modal(plane, "app", "logs", "work").count("model 50 closes") >= 1


def test_a_preempted_container_and_its_successor_may_overlap(plane: Loopback, ask: Ask) -> None:
    plane.faults.add(PreemptAtInput(on="square", strikes="outlive", grace_s=60, overlap=True))
    call = ask('answer = modal.Function.from_name("work", "outlive").spawn("both").object_id')
    eventually(lambda: ask('answer = modal.Dict.from_name("began", create_if_missing=True).get("both")'))
    ask('answer = modal.Function.from_name("work", "square").remote(1)')
    eventually(lambda: plane.seen.inputs_started["outlive"] == 2)
    first, second = plane.seen.of("outlive")
    assert first.why == "preempted"
    assert (first.ended_s, second.ended_s) == (None, None), "one came after the other"
    ask('modal.Dict.from_name("free", create_if_missing=True)["both"] = True; answer = None')
    assert ask(f'answer = modal.FunctionCall.from_id("{call}").get()') == second.task_id
    eventually(lambda: first.ended_s)
    assert plane.seen.inputs_finished["outlive"] == 1
    assert plane.seen.max_containers["outlive"] == 1


def test_a_nonpreemptible_function_is_never_preempted(plane: Loopback, ask: Ask) -> None:
    plane.faults.add(PreemptAtInput(on="steady"))
    assert ask('answer = modal.Function.from_name("work", "steady").remote(1)') == 1
    assert plane.seen.errors.pop().startswith("steady is nonpreemptible")
    assert [container.why for container in plane.seen.of("steady")] == ["running"]
    assert plane.seen.of("steady")[0].nonpreemptible


def test_an_input_that_keeps_killing_fails_at_last(plane: Loopback, ask: Ask) -> None:
    answer = ask(
        """
        die = modal.Function.from_name("work", "die")
        answer = [r if isinstance(r, int) else str(r) for r in die.map([1, -1, 2], return_exceptions=True)]
        """,
    )
    assert answer == [1, "die lost 3 containers on this input", 2]


def test_a_deployed_container_that_cannot_start_is_started_again_for_ever(tmp_path: Path) -> None:
    with Loopback(tmp_path, settings=Settings(secrets={"key": {"KEY": ""}})) as plane, asking(plane) as ask:
        modal(plane, "deploy", f"{APPS}/work.py")
        call = ask('answer = modal.Cls.from_name("work", "Broken")().run.spawn().object_id')
        eventually(lambda: len(plane.seen.of("Broken")) > 3)
        assert plane.n_unfinished == 1
        ask(f'modal.FunctionCall.from_id("{call}").cancel(); answer = None')
        assert plane.wait(call).status == "TERMINATED"
        assert plane.n_unfinished == 0


def test_an_enter_hook_that_raises_fails_the_call_of_an_app_that_is_not_deployed(plane: Loopback) -> None:
    done = plane.modal("run", f"{APPS}/work.py::Broken.run", cwd=REPOSITORY)
    assert done.returncode != 0
    assert "no weights here" in done.stdout + done.stderr


@pytest.mark.parametrize(("cls", "ends_container"), [("Hold", True), ("AsyncHold", False)])
def test_a_caller_that_goes_away_ends_a_sync_concurrent_container_and_of_an_async_one_its_call(
    plane: Loopback, ask: Ask, cls: str, ends_container: bool
) -> None:
    program = f'import modal; modal.Cls.from_name("work", "{cls}")().until_free.remote("never")'
    started = plane.seen.inputs_started
    with subprocess.Popen([sys.executable, "-c", program], env=plane.env) as caller:
        eventually(lambda: started[f"{cls}.until_free"] == 1)
        call = ask(f'answer = modal.Cls.from_name("work", "{cls}")().until_free.spawn("{cls}").object_id')
        eventually(lambda: started[f"{cls}.until_free"] == 2)
        assert plane.cancel_orphans() == 0
        caller.kill()
    eventually(plane.cancel_orphans)
    if ends_container:
        eventually(lambda: started[f"{cls}.until_free"] == 3)
    else:
        eventually(lambda: "Successfully canceled input" in plane.logs())
    ask(f'modal.Dict.from_name("free", create_if_missing=True)["{cls}"] = True; answer = None')
    assert ask(f'answer = modal.FunctionCall.from_id("{call}").get()') == cls
    assert [container.why for container in plane.seen.of(cls)] == ["crashed", "running"][not ends_container :]
    assert plane.seen.inputs_finished[f"{cls}.until_free"] == 1


def test_a_call_finds_those_that_it_made(plane: Loopback, ask: Ask) -> None:
    graph = ask(
        """
        call = modal.Function.from_name("work", "driver").spawn(3)
        call.get()
        answer = [(one.function_name, [child.function_name for child in one.children]) for one in call.get_call_graph()]
        """
    )
    assert graph == [["driver", ["square", "square", "square"]]]
    assert plane.seen.of("driver")[-1].gpu == ""
    ask('modal.Cls.from_name("work", "Model")().run.remote(); answer = None')
    ask('modal.Cls.from_name("work", "Model").with_options(max_containers=2)().run.remote(); answer = None')
    ask('modal.Cls.from_name("work", "Model").with_options(gpu="L4")().run.remote(); answer = None')
    assert [one.gpu for one in plane.seen.of("Model")][-3:] == ["A100-40GB", "A100-40GB", "L4"]


def test_unimplemented_rpc_names_itself(tmp_path: Path) -> None:
    with Loopback(tmp_path) as plane:
        done = plane.modal("queue", "list", cwd=REPOSITORY)
        assert done.returncode != 0
        assert "does not implement QueueList" in done.stdout + done.stderr
        assert plane.seen.unimplemented == ["QueueList"]
