"""Settings that every test shares."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import cast

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

# What runs of tests find of the speed of engines is none of the user's.
os.environ["XDG_CACHE_HOME"] = str(REPOSITORY / "build/cache")

SLOW_TIMEOUT_S = 1800  # for all others see pyproject.toml
AGAIN_S = 30.0

LIMIT = pytest.StashKey[object]()  # the settings of pytest-timeout for this test
RUNS = pytest.StashKey[bool]()  # whether the test or one of its fixtures runs


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Give slow tests more time."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: object) -> Generator[None, object, object]:
    """Let the alarm come again until the test has ended: what the test leaves may wait, too.

    Only the test and its fixtures hear it: raised while pytest reports, it would end the worker.
    """
    item.stash[LIMIT] = settings
    is_set = yield
    fail = cast(Callable[[int, FrameType | None], None], signal.getsignal(signal.SIGALRM))
    signal.signal(signal.SIGALRM, lambda *alarm: fail(*alarm) if item.stash.get(RUNS, False) else None)
    first_s, _ = signal.getitimer(signal.ITIMER_REAL)
    signal.setitimer(signal.ITIMER_REAL, first_s, AGAIN_S)
    return is_set


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    yield from _running(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    yield from _running(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Set the alarm anew where the test failed: pytest-timeout has cancelled it for the sake of a debugger."""
    if LIMIT in item.stash and not any(signal.getitimer(signal.ITIMER_REAL)):
        item.ihook.pytest_timeout_set_timer(item=item, settings=item.stash[LIMIT])
    yield from _running(item)


def _running(item: pytest.Item) -> Generator[None]:
    item.stash[RUNS] = True
    try:
        yield
    finally:
        item.stash[RUNS] = False


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tiny checkpoints, one folder each; copy one before changing it."""
    root = tmp_path_factory.mktemp("checkpoints")
    subprocess.run(
        [sys.executable, "-m", "tests.support.checkpoints", root], cwd=REPOSITORY, check=True, capture_output=True
    )
    return root
