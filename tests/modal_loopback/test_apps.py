"""Apps on the plane: deployed, detached, stopped, and gone with their client."""

from __future__ import annotations

import json
import os
from pathlib import Path
from textwrap import dedent

from tests.modal_loopback import Loopback, Settings
from tests.support import REPOSITORY
from tests.support.plane import APPS, Ask, asking, eventually, modal, needs_plane

pytestmark = needs_plane


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
        assert plane.python("-c", script, cwd=REPOSITORY, env=quick).returncode == -9
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
    with Loopback(tmp_path, settings=Settings(heartbeat_timeout_s=5.0, stop_grace_s=1.0)) as plane:
        script = f"import os, signal, sys; sys.path.insert(0, '{APPS}'); import basic\n" + dedent(
            """
            with basic.app.run():
                basic.driver.remote(1)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
        quick = {"MODAL_HEARTBEAT_INTERVAL": "0.2"}
        assert plane.python("-c", script, cwd=REPOSITORY, env=quick).returncode == -9
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
