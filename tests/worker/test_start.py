"""The start of a service: hooks never raise, what fails is tried anew once, and only the last error is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.dataset.volume import LocalVolume
from pipeline.errors import BrokenEngineError, EngineError
from pipeline.worker import Service, Start
from tests.support import REPOSITORY

CONFIG = load_config(REPOSITORY / "configs/hashing.toml")


class Frail(Service):
    """A service of which some steps fail."""

    fails: tuple[str, ...] = ()
    discarded = 0

    def sleep(self) -> None:
        self._step("sleep")
        super().sleep()

    def wake(self) -> None:
        self._step("wake")
        super().wake()

    def discard(self) -> None:
        Frail.discarded += 1
        super().discard()
        self._step("discard")

    def _step(self, name: str) -> None:
        if name in self.fails:
            raise EngineError(f"{name} failed")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Start]]:
    """Return what makes a start whose services fail in these steps, one after the other; "make" is their making."""
    starts = []
    Frail.discarded = 0

    def of(*fails: tuple[str, ...]) -> Start:
        left = iter(fails)

        def make() -> Service:
            now = next(left)
            if "make" in now:
                raise RuntimeError("make failed")
            made = Frail(CONFIG, tmp_path, LocalVolume())
            made.fails = now
            return made

        starts.append(Start(make))
        return starts[-1]

    yield of
    for each in starts:
        each.close()


@pytest.mark.parametrize(
    ("first", "n_discarded"),
    [(("make",), 0), (("sleep",), 1), (("wake",), 1), (("sleep", "discard"), 1), (("wake", "discard"), 1)],
)
def test_what_fails_once_is_loaded_anew(start: Callable[..., Start], first: tuple[str, ...], n_discarded: int) -> None:
    made = start(first, ())
    made.load(sleep=True)
    if "wake" not in first:
        assert made.error == f"{first[0]} failed"
        with pytest.raises(BrokenEngineError, match=f"{first[0]} failed"):
            _ = made.service
    made.wake()
    assert made.error == ""
    assert len(made.service.embed(["one", "two"])) == 2
    assert Frail.discarded == n_discarded


def test_what_fails_twice_is_said_by_every_call(start: Callable[..., Start]) -> None:
    made = start(("sleep",), ("make",))
    made.load(sleep=True)
    made.wake()
    assert made.error == "make failed"
    for _ in range(2):
        with pytest.raises(BrokenEngineError, match="make failed"):
            _ = made.service


def test_a_start_that_is_none_yet_says_so(start: Callable[..., Start]) -> None:
    with pytest.raises(BrokenEngineError, match="found none"):
        _ = start().service
