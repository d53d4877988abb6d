"""Settings that every test shares."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import REPOSITORY

# A shell that starts pytest in the background lets it ignore SIGINT, and everything that the tests start with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine; a file per example goes to the tmp_path of its test.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tiny checkpoints, one folder each; copy one before changing it."""
    root = tmp_path_factory.mktemp("checkpoints")
    subprocess.run(
        [sys.executable, "-m", "tests.support.checkpoints", root], cwd=REPOSITORY, check=True, capture_output=True
    )
    return root
