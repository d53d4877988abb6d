"""The fan-out on Modal, with a container of this process for the service's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.budget import FIRST_CHUNK_S, FIRST_START_S, Budget
from jobs.fan_out import IN_FLIGHT, fan_out_to_containers
from jobs.pool import Pool
from jobs.request import Request
from jobs.volume import OutputLock
from pipeline.chunk import Chunk
from pipeline.dataset.store import Store
from pipeline.driver.run import Outcome, run
from pipeline.worker.container import Service
from tests.support import ids, local_config, texts, write_jsonl

CONFIG = local_config("engine.kind=hashing", "run.chunk_tokens=200")


class Remote:
    """A method of a class on Modal whose container dies with each chunk the first times that it gets it."""

    def __init__(self, service: Service, store: Store, n_deaths: int, n_containers: int = 1) -> None:
        self.service, self.store, self.n_deaths, self.n_containers = service, store, n_deaths, n_containers
        self.maps: list[int] = []  # how many chunks each was given
        self.most_in_flight = 0
        self.embed_chunk = self.starmap = self

    async def aio(
        self, chunks: AsyncIterator[tuple[dict[str, Any], int]], *, kwargs: dict[str, Any], **options: bool
    ) -> AsyncIterator[dict[str, Any]]:
        assert options == {"order_outputs": False, "return_exceptions": True}
        self.maps.append(0)
        waiting: asyncio.Queue[tuple[dict[str, Any], int] | None] = asyncio.Queue()

        async def take_all() -> None:
            async for each in chunks:  # the client takes whatever it is given at once
                self.maps[-1] += 1
                await waiting.put(each)
                self.most_in_flight = max(self.most_in_flight, waiting.qsize())
            await waiting.put(None)

        taking = asyncio.create_task(take_all())
        while (each := await waiting.get()) is not None:
            yield self._embed(*each, **kwargs)
        await taking

    def _embed(self, chunk: dict[str, Any], deaths: int, *, job: dict[str, Any], output: str) -> dict[str, Any]:
        if deaths < self.n_deaths:  # Modal starts the chunk again, and the service finds what is left of the attempt
            self.store.volume.attempts(self.store.root).put(msgspec.convert(chunk, Chunk), deaths + 1)
        return self.service.embed_chunk(chunk, job, output, deaths)


class NoMeter:
    """Counts no money."""

    def spent_usd(self) -> float:
        return 0.0


def embed(remote: Remote, store: Store, source: Path, max_usd: float = math.inf) -> Outcome:
    """Run over a pool whose containers are the remote's."""
    pool = Pool(service=remote, n_containers=remote.n_containers, in_words="a test's pool")
    budget = Budget(max_usd=max_usd, meter=NoMeter(), usd_per_s=1.0, idle_s=0.0, n_containers=remote.n_containers)
    fan_out = fan_out_to_containers(
        Request(input="in", output="out"), lambda: pool, store, OutputLock("out"), budget, math.inf
    )
    return run(str(source), store, CONFIG, fan_out=fan_out)


@pytest.mark.parametrize(("n_deaths", "is_isolated"), [(0, False), (1, False), (2, True)])
def test_a_chunk_that_is_put_back_in_line_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_deaths: int, is_isolated: bool
) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(40))
    store = Store(root=tmp_path / "out")
    service = Service(CONFIG, tmp_path, store.volume)
    remote = Remote(service, store, n_deaths)
    monkeypatch.setattr("jobs.fan_out.MAX_FAILURES_AT_START", math.inf)
    outcome = embed(remote, store, tmp_path / "in")
    service.close()
    assert (outcome.run.state, outcome.failures) == ("complete", ())
    assert sorted(ids(store.root)) == sorted(row["id"] for row in texts(40))
    n_chunks = outcome.totals["parts"]
    assert sum(remote.maps) == n_chunks * (n_deaths + 1)
    assert remote.maps.count(1) >= (n_chunks if is_isolated else 0), "each alone"
    assert store.volume.attempts(store.root).read() == []


def test_a_budget_knows_that_it_kept_a_chunk_back_once_a_container_has_ended_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent_usd = iter([10.0, 95.0, 70.0])  # the last without the idle time that it did not have
    monkeypatch.setattr(NoMeter, "spent_usd", lambda self: next(spent_usd))
    budget = Budget(max_usd=100.0, meter=NoMeter(), usd_per_s=1.0, idle_s=0.0, n_containers=1, dearest_s=10.0)
    assert (budget.fits_one_more(), budget.kept_back) == (True, False)
    assert (budget.fits_one_more(), budget.kept_back) == (False, True)
    assert "$70.00 is spent" in budget.in_words()
    assert budget.kept_back


@pytest.mark.parametrize("n_containers", [1, 2])
def test_a_map_is_fed_as_its_chunks_end(tmp_path: Path, n_containers: int) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(300))
    store = Store(root=tmp_path / "out")
    service = Service(CONFIG, tmp_path, store.volume)
    remote = Remote(service, store, 0, n_containers)
    outcome = embed(remote, store, tmp_path / "in")
    service.close()
    assert outcome.run.state == "complete"
    assert remote.maps == [outcome.totals["parts"]]
    assert 1 < remote.most_in_flight <= IN_FLIGHT * n_containers < outcome.totals["parts"]


def test_what_a_budget_keeps_back_is_not_handed_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(60))
    store = Store(root=tmp_path / "out")
    service = Service(CONFIG, tmp_path, store.volume)
    remote = Remote(service, store, 0)
    outcome = embed(remote, store, tmp_path / "in", max_usd=FIRST_START_S + FIRST_CHUNK_S - 1)
    service.close()
    assert (outcome.run.state, sum(remote.maps)) == ("incomplete", 0)
