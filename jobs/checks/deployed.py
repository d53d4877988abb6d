"""An app that is deployed for a step alone: snapshots and endless starts are of deployed apps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import modal


@contextmanager
def deployed(app: modal.App, name: str) -> Iterator[None]:
    """Deploy an app and stop it at the end, with all of its containers."""
    app.deploy(name=name)
    try:
        yield
    finally:
        stop = ["app", "stop", name, "--yes"]  # the client has no call for it
        subprocess.run([sys.executable, "-m", "modal", *stop], capture_output=True, check=False)
