"""A plane with the app of work.py for each file of tests, and a script that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.modal_loopback import Loopback, Settings
from tests.support.plane import APPS, Ask, asking, modal


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
