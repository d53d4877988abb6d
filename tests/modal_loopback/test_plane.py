"""The test control plane keeps its promises: each test runs the unmodified Modal client against it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.modal_loopback import (
    DelayAnswer,
    DropResult,
    FailCommit,
    KillAtInput,
    Loopback,
    PreemptAtInput,
    Settings,
    why_unavailable,
)
from tests.modal_loopback.volumes import Copy, Volume

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
ROOT = Path(__file__).parent.parent.parent
APPS = "tests/modal_loopback_apps"
Ask = Callable[[str], Any]


def modal(plane: Loopback, *arguments: str) -> str:
    done = plane.modal(*arguments, cwd=ROOT, timeout_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# A plain script that knows the deployed app only by name: each line it reads is a program that sets `answer`.
SCRIPT = """
import json, sys, time, traceback
import modal
for line in sys.stdin:
    names = {"modal": modal, "time": time}
    try:
        exec(json.loads(line), names)
        print(json.dumps([names["answer"], None]), flush=True)
    except Exception:
        print(json.dumps([None, traceback.format_exc()]), flush=True)
"""


@contextmanager
def asking(plane: Loopback) -> Iterator[Ask]:
    """Keep one such script running, because importing the client costs more than most answers."""
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=plane.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )

    def ask(program: str) -> Any:
        assert script.stdin is not None
        assert script.stdout is not None
        watchdog = threading.Timer(60, script.kill)
        watchdog.start()
        script.stdin.write(json.dumps(dedent(program)) + "\n")
        reply = script.stdout.readline()
        watchdog.cancel()
        assert reply, "the script died or took more than 60 s"
        answer, error = json.loads(reply)
        assert error is None, error
        return answer

    with script:
        yield ask


def eventually(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    settings = Settings(scaledown_factor=0.1, secrets={"key": {"KEY": "s3cret"}}, max_deaths_deployed=3)
    with Loopback(tmp_path_factory.mktemp("plane"), settings=settings) as plane:
        modal(plane, "deploy", f"{APPS}/work.py")
        yield plane
        assert plane.seen.errors == []
        assert plane.seen.unimplemented == []


@pytest.fixture
def plane(deployed: Loopback) -> Iterator[Loopback]:
    yield deployed
    deployed.faults.clear()


@pytest.fixture(scope="module")
def ask(deployed: Loopback) -> Iterator[Ask]:
    with asking(deployed) as ask:
        yield ask


# --- running and deploying ---


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


# --- volumes ---

DESKS = """
Desk = modal.Cls.from_name("work", "Desk")
a, b = Desk(name="a"), Desk(name="b")
"""


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


def test_failed_commit_raises_and_publishes_nothing(plane: Loopback, ask: Ask) -> None:
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
""",
    )
    assert answer == ["no space on the volume", None, "one"]


def test_commits_of_two_containers_are_merged_file_by_file(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    volume = Volume(id="vo", name="v", version=1, created_s=0, store=store)
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


# --- faults ---


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
    done = plane.modal("run", f"{APPS}/work.py::Broken.run", cwd=ROOT)
    assert done.returncode != 0
    assert "no weights here" in done.stdout + done.stderr


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
        done = plane.modal("queue", "list", cwd=ROOT)
        assert done.returncode != 0
        assert "does not implement QueueList" in done.stdout + done.stderr
        assert plane.seen.unimplemented == ["QueueList"]


# --- apps ---


def test_redeploying_replaces_containers_only_when_something_changed(tmp_path: Path) -> None:
    source = tmp_path / "tiny.py"
    text = "import modal\napp = modal.App('tiny')\n@app.function()\ndef f():\n    return VALUE\n"
    source.write_text(text.replace("VALUE", "1"))
    with Loopback(tmp_path / "plane") as plane, asking(plane) as ask:
        call = 'answer = modal.Function.from_name("tiny", "f").remote()'
        modal(plane, "deploy", str(source))
        assert ask(call) == 1
        modal(plane, "deploy", str(source))
        assert ask(call) == 1
        assert len(plane.seen.of("f")) == 1
        source.write_text(text.replace("VALUE", "2"))
        modal(plane, "deploy", str(source))
        assert ask(call) == 2
        assert [container.why for container in plane.seen.of("f")] == ["redeployed", "running"]


def test_detached_run_goes_on_after_its_client_was_killed(tmp_path: Path) -> None:
    with Loopback(tmp_path, settings=Settings(heartbeat_timeout_s=1.0)) as plane:
        script = f"import os, signal, sys; sys.path.insert(0, '{APPS}'); import basic\n" + dedent(
            """
            with basic.app.run(detach=True):
                basic.driver.spawn(3)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
        quick = {"MODAL_HEARTBEAT_INTERVAL": "0.2"}
        assert plane.python("-c", script, cwd=ROOT, env=quick).returncode == -9
        eventually(lambda: plane.seen.inputs_finished["driver"])
        eventually(lambda: all(container.ended_s for container in plane.seen.containers))
        assert plane.seen.inputs_finished == {"driver": 1, "Writer.write": 3}


def test_app_list_and_stop_end_containers(tmp_path: Path) -> None:
    with (
        Loopback(tmp_path, settings=Settings(secrets={"key": {"KEY": ""}}, stop_grace_s=1)) as plane,
        asking(plane) as ask,
    ):
        modal(plane, "deploy", f"{APPS}/work.py")
        ask('modal.Function.from_name("work", "nap").spawn(300); answer = None')
        eventually(lambda: plane.seen.inputs_started["nap"])
        (listed,) = json.loads(modal(plane, "app", "list", "--json"))
        assert (listed["description"], listed["state"], listed["tasks"]) == ("work", "deployed", "1")
        modal(plane, "app", "stop", "work", "--yes")
        container = plane.seen.of("nap")[0]
        eventually(lambda: container.ended_s)
        assert container.why == "stopped"
        (listed,) = json.loads(modal(plane, "app", "list", "--json"))
        assert listed["state"] == "stopped"


def test_ephemeral_app_ends_when_its_client_dies(tmp_path: Path) -> None:
    with Loopback(tmp_path, settings=Settings(heartbeat_timeout_s=1.0, stop_grace_s=1.0)) as plane:
        script = f"import os, signal, sys; sys.path.insert(0, '{APPS}'); import basic\n" + dedent(
            """
            with basic.app.run():
                basic.driver.remote(1)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
        quick = {"MODAL_HEARTBEAT_INTERVAL": "0.2"}
        assert plane.python("-c", script, cwd=ROOT, env=quick).returncode == -9
        eventually(lambda: all(container.ended_s for container in plane.seen.containers))
        assert plane.seen.of("driver")


def test_killing_the_containers_process_kills_all_of_it(plane: Loopback, ask: Ask) -> None:
    ask('modal.Function.from_name("work", "nap").spawn(1.5); answer = None')
    container = eventually(lambda: next((c for c in plane.seen.of("nap") if c.inputs and not c.ended_s), None))
    started = plane.seen.inputs_started["nap"]
    os.kill(container.pid, 9)
    eventually(lambda: container.ended_s)
    eventually(lambda: plane.seen.inputs_started["nap"] == started + 1)
    assert container.why == "crashed"
