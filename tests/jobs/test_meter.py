"""What a run on Modal has cost, from the records of containers; the clock and the records are a test's."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import modal
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.containers import BEAT_S, ContainerRecord
from jobs.meter import DRIVER_USD_PER_S, GONE_AFTER_S, READ_EVERY_S, ContainerMeter
from jobs.resources import DRIVER_IDLE_S
from pipeline.driver import container_usd_per_s
from pipeline.errors import ConfigError

BEGAN_AT = 1000.0
WINDOW_S = 300.0
GPU = "A100-40GB"
USD_PER_S = container_usd_per_s(GPU, n_cpus=4, memory_gib=32)


def record(started_at: float, *, now: float, **changes: Any) -> ContainerRecord:
    """Return the record of a container that is up and works for the run."""
    values: dict[str, Any] = {
        "task": f"ta-{started_at}",
        "app": "ap-1",
        "config": "configs/a.toml",
        "gpu": GPU,
        "n_cpus": 4,
        "memory_gib": 32,
        "idle_window_s": WINDOW_S,
        "started_at": started_at,
        "ready_at": started_at + 50,
        "seen_at": now,
        "outputs": ("wiki",),
    }
    return ContainerRecord(**values | changes)


def seconds(records: Iterable[ContainerRecord], now: float, **changes: Any) -> float:
    """Return for how many seconds of a container the run pays, its driver left out."""
    values: dict[str, Any] = {"began_at": BEGAN_AT, "output": "wiki", "config": "configs/a.toml", "gpu": GPU}
    meter = ContainerMeter(**values | changes, clock=lambda: now, read=lambda began_at: records)
    return (meter.spent_usd() - (now - BEGAN_AT + DRIVER_IDLE_S) * DRIVER_USD_PER_S) / USD_PER_S


CASES = {
    "it works: its idle time is still to come": ([record(1100, now=2000)], 2000 - 1100 + WINDOW_S),
    "it idles: part of that is over": ([record(1100, now=2000, idle_since=1900)], 1900 + WINDOW_S - 1100),
    "it has ended": ([record(1100, now=2000, ended_at=1700)], 1700 - 1100),
    "it was warm before the run": ([record(500, now=2000)], 2000 - BEGAN_AT + WINDOW_S),
    "it died, and another came": (
        [record(1100, now=2000, seen_at=1500), record(1520, now=2000)],
        1500 + BEAT_S - 1100 + 2000 - 1520 + WINDOW_S,
    ),
    "it did not load": (
        [record(1100, now=2000, outputs=(), ready_at=0, error="no GPU", ended_at=1150)],
        1150 - 1100,
    ),
    "it loads": ([record(1900, now=2000, outputs=(), ready_at=0)], 2000 - 1900 + WINDOW_S),
    "four": ([record(1100 + i, now=2000, ended_at=1500 + i) for i in range(4)], 4 * 400),
    "it stays a few seconds": ([record(1100, now=2000, idle_window_s=15)], 2000 - 1100 + 15),
    "of another output": ([record(1100, now=2000, outputs=("books",))], 0),
    "of another config": ([record(1100, now=2000, outputs=(), config="configs/b.toml")], 0),
    "of another GPU": ([record(1100, now=2000, outputs=(), gpu="L4")], 0),
    "it did its work for the output before the run": ([record(500, now=2000, idle_since=900)], 0),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_pays_for_its_containers_from_start_to_end(case: str) -> None:
    records, expected = CASES[case]
    assert seconds(records, 2000.0) == pytest.approx(expected)


def test_a_gpu_without_a_listed_price_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match=r"modal\.gpu: expected a GPU of the list of prices .* found 'Z9000'"):
        seconds([], 2000.0, gpu="Z9000")
    assert seconds(
        [record(1100, now=2000, ended_at=1200, gpu="Z9000")], 2000.0, gpu="Z9000", usd_per_hour=3600 * USD_PER_S
    ) == (pytest.approx(100))


def test_a_dict_that_cannot_be_reached_leaves_what_was_known() -> None:
    now = [1500.0]
    answers: list[Any] = [[record(1100, now=1500)], modal.exception.ConnectionError("gone")]

    def read(began_at: float) -> list[ContainerRecord]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    meter = ContainerMeter(
        began_at=BEGAN_AT, output="wiki", config="configs/a.toml", gpu=GPU, clock=lambda: now[0], read=read
    )
    first = meter.spent_usd()
    now[0] += READ_EVERY_S + 1
    assert meter.spent_usd() == pytest.approx(first + (READ_EVERY_S + 1) * (USD_PER_S + DRIVER_USD_PER_S))
    assert answers == []


@given(
    st.lists(st.tuples(st.floats(0, 5000), st.floats(0, 3000), st.booleans()), max_size=6),
    st.lists(st.floats(BEGAN_AT, 9000), min_size=2, max_size=8).map(sorted),
)
def test_what_is_spent_is_never_negative_and_falls_by_idle_time_alone(
    lives: list[tuple[float, float, bool]], times: list[float]
) -> None:
    """Each container starts, works for a while, and then ends or is seen no more."""
    now = [0.0]

    def read(began_at: float) -> list[ContainerRecord]:
        found = []
        for number, (started_at, worked_s, says_so) in enumerate(lives):
            end = started_at + worked_s
            if started_at <= now[0]:
                ended_at = end if says_so and end <= now[0] else 0.0
                found.append(record(started_at, now=min(end, now[0]), ended_at=ended_at, task=str(number)))
        return found

    meter = ContainerMeter(
        began_at=BEGAN_AT, output="wiki", config="configs/a.toml", gpu=GPU, clock=lambda: now[0], read=read
    )
    spent = []
    for now[0] in times:
        spent.append(meter.spent_usd())
    assert min(spent) >= 0
    most_given_back = len(lives) * (WINDOW_S + GONE_AFTER_S + READ_EVERY_S) * USD_PER_S
    assert all(later >= earlier - most_given_back - 1e-9 for earlier, later in itertools.pairwise(spent))
