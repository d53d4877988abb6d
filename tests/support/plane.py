"""How tests talk to the control plane: by the `modal` command, and by a script that stays."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import dedent
from typing import Any

import pytest

from tests.modal_loopback import Loopback, why_unavailable
from tests.support import REPOSITORY

needs_plane = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
APPS = "tests/modal_loopback_apps"
Ask = Callable[[str], Any]

DESKS = """
Desk = modal.Cls.from_name("work", "Desk")
a, b = Desk(name="a"), Desk(name="b")
"""


def modal(plane: Loopback, *arguments: str) -> str:
    done = plane.modal(*arguments, cwd=REPOSITORY, timeout_s=60)
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
