"""What the plane sees of a container's processes, which end whenever they like."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack

from .namespace import open_inodes, processes

BUSY = "while :; do (true) & (true) & (true) & wait; done"
N_LOOKS = 300


def test_a_process_that_ends_while_it_is_looked_at_is_no_error() -> None:
    with ExitStack() as running:
        for _ in range(3):
            shell = running.enter_context(subprocess.Popen(["sh", "-c", BUSY]))
            running.callback(shell.kill)
        for _ in range(N_LOOKS):
            processes(os.getpid())
            open_inodes(os.getpid())
