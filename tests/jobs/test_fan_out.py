"""The fan-out on Modal, with a container of this process for the service's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs import fan_out
from jobs.request import Request
from jobs.volume import OutputLock
from pipeline.chunk import Chunk
from pipeline.dataset.store import Store
from pipeline.driver.run import run
from pipeline.worker.container import Service
from tests.support import ids, local_config, texts, write_jsonl

CONFIG = local_config("engine.kind=hashing", "run.chunk_tokens=200")


class Remote:
    """A method of a class on Modal whose container dies with each chunk the first times that it gets it."""

    def __init__(self, service: Service, store: Store, n_deaths: int) -> None:
        self.service, self.store, self.n_deaths = service, store, n_deaths
        self.windows: list[int] = []
        self.n_isolated = 0
        self.embed_chunk = self

    def map(
        self, chunks: Sequence[dict[str, Any]], deaths: Sequence[int], *, kwargs: dict[str, Any], **options: bool
    ) -> Iterator[dict[str, Any]]:
        assert options == {"order_outputs": False, "return_exceptions": True}
        self.windows.append(len(chunks))
        return (self._embed(*each, **kwargs) for each in zip(chunks, deaths, strict=True))

    def remote(self, chunk: dict[str, Any], deaths: int, **shared: Any) -> dict[str, Any]:
        self.n_isolated += 1
        return self._embed(chunk, deaths, **shared)

    def _embed(self, chunk: dict[str, Any], deaths: int, *, job: dict[str, Any], output: str) -> dict[str, Any]:
        if deaths < self.n_deaths:  # Modal starts the chunk again, and the service finds what is left of the attempt
            self.store.volume.attempts(self.store.root).put(msgspec.convert(chunk, Chunk), deaths + 1)
        return self.service.embed_chunk(chunk, job, output, deaths)


@pytest.mark.parametrize(("n_deaths", "is_isolated"), [(0, False), (1, False), (2, True)])
def test_a_chunk_that_is_put_back_in_line_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_deaths: int, is_isolated: bool
) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(40))
    store = Store(root=tmp_path / "out")
    service = Service(CONFIG, tmp_path, store.volume)
    remote = Remote(service, store, n_deaths)
    monkeypatch.setattr(fan_out, "_service", lambda request, config: (remote, 1))
    monkeypatch.setattr(fan_out, "MAX_FAILURES_AT_START", math.inf)
    request = Request(input="in", output="out")
    embed = fan_out.fan_out_to_containers(request, CONFIG, store, OutputLock("out"), math.inf)
    outcome = run(str(tmp_path / "in"), store, CONFIG, fan_out=embed)
    service.close()
    assert (outcome.run.state, outcome.failures) == ("complete", ())
    assert sorted(ids(store.root)) == sorted(row["id"] for row in texts(40))
    assert remote.windows == [remote.windows[0]] * min(2, n_deaths + 1)
    assert remote.n_isolated == (remote.windows[0] if is_isolated else 0)
    assert store.volume.attempts(store.root).read() == []


def test_chunks_travel_in_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(60))
    store = Store(root=tmp_path / "out")
    service = Service(CONFIG, tmp_path, store.volume)
    remote = Remote(service, store, 0)
    monkeypatch.setattr(fan_out, "_service", lambda request, config: (remote, 2))
    monkeypatch.setattr(fan_out, "WINDOW_CHUNKS", 1)
    embed = fan_out.fan_out_to_containers(Request(input="in", output="out"), CONFIG, store, OutputLock("out"), math.inf)
    assert run(str(tmp_path / "in"), store, CONFIG, fan_out=embed).run.state == "complete"
    service.close()
    assert len(remote.windows) > 1
    assert set(remote.windows[:-1]) == {2}
