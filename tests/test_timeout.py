"""Every test ends: one that hangs fails by its name, and the others go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY

CONFTEST = """
import time

import tests.conftest
from tests.conftest import *

tests.conftest.AGAIN_S = 0.2


def pytest_runtest_makereport():
    time.sleep(0.3)  # as on a busy machine: alarms come while pytest reports
"""
TESTS = """
import subprocess, threading, time
import pytest

def test_waits_for_ever():
    threading.Event().wait()

def test_leaves_by_waiting_for_a_process():
    with subprocess.Popen(["sleep", "50"]):
        threading.Event().wait()

@pytest.fixture
def endless():
    yield
    threading.Event().wait()

def test_has_a_fixture_that_does_not_end(endless):
    pass

def test_fails_and_has_a_fixture_that_does_not_end(endless):
    raise ValueError

@pytest.mark.slow
def test_slow():
    time.sleep(0.8)

def test_sound():
    pass
"""


def test_a_test_that_hangs_fails_by_its_name_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_them.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "--timeout=0.5", "--timeout-method=signal", "-n1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1, done.stdout
    for name in ("test_waits_for_ever", "test_leaves_by_waiting_for_a_process", "test_has_a_fixture_that_does_not_end"):
        assert f"test_them.py::{name} - Failed: Timeout" in done.stdout, done.stdout
    assert "test_them.py::test_fails_and_has_a_fixture_that_does_not_end - ValueError" in done.stdout, done.stdout
    assert "3 failed, 3 passed, " in done.stdout, done.stdout
    assert ", 2 errors in " in done.stdout, done.stdout
