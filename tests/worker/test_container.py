"""What a container does around a snapshot: the engine that wakes is the one that fell asleep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import pipeline.engines.thread
from pipeline.config import load_config
from pipeline.corpus import Columns
from pipeline.dataset.volume import LocalVolume
from pipeline.engines.hashing import HashingEmbedder
from pipeline.engines.vllm import VLLMEmbedder
from pipeline.errors import EngineError
from pipeline.worker.container import Service, _unpack_job, pack
from pipeline.worker.embed import Job
from tests.support import REPOSITORY

CONFIG = load_config(REPOSITORY / "configs/hashing.toml")


class Sleeper(HashingEmbedder):
    """An engine that can forget a share of what it knew while it slept."""

    def __init__(self, forgets: float) -> None:
        super().__init__(CONFIG)
        self.forgets, self.slept, self.woke = forgets, 0, 0

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        vectors = super().embed(token_ids)
        if self.woke:
            vectors[:, : int(self.forgets * vectors.shape[1])] = 0
        return vectors

    def sleep(self) -> None:
        self.slept += 1

    def wake(self) -> None:
        self.woke += 1


def service(engine: Sleeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    monkeypatch.setattr(pipeline.engines.thread, "make_embedder", lambda config: engine)
    return Service(CONFIG, tmp_path, LocalVolume())


def test_an_engine_that_wakes_as_it_slept_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = Sleeper(0.0)
    running = service(engine, monkeypatch, tmp_path)
    running.sleep()
    running.wake()
    assert (engine.slept, engine.woke) == (1, 1)
    running.close()


def test_an_engine_that_wakes_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    running = service(Sleeper(0.1), monkeypatch, tmp_path)
    running.sleep()
    with pytest.raises(EngineError, match=r"found 0\.9\d+.*modal\.snapshot"):
        running.wake()
    running.close()


def test_an_engine_that_never_slept_is_not_woken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = Sleeper(0.0)
    running = service(engine, monkeypatch, tmp_path)
    running.wake()
    running.embed(["x"])
    assert (engine.slept, engine.woke) == (0, 0)
    running.close()


class RefusingLLM:
    """What vLLM's LLM does when it refuses to sleep: the scheduler has stopped, and waking starts it again."""

    def __init__(self, *, wakes: bool = True) -> None:
        self.calls: list[str] = []
        self._wakes = wakes

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")
        raise RuntimeError("Memory usage increased after sleeping.")

    def wake_up(self) -> bool:
        self.calls.append("wake")
        return self._wakes


def asleep(llm: RefusingLLM) -> VLLMEmbedder:
    engine = VLLMEmbedder.__new__(VLLMEmbedder)
    engine._llm, engine._sleeps = llm, True  # type: ignore[assignment]
    return engine


def test_a_vllm_that_refuses_to_sleep_stays_awake_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    llm = RefusingLLM()
    engine = asleep(llm)
    engine.sleep()
    engine.wake()
    engine.sleep()
    assert llm.calls == ["sleep 1", "wake"]
    assert "vLLM refused to sleep and stays awake: Memory usage increased" in capfd.readouterr().err


def test_a_vllm_that_does_not_wake_is_an_error() -> None:
    with pytest.raises(EngineError, match="a part of it asleep"):
        asleep(RefusingLLM(wakes=False)).wake()


def test_a_job_travels_with_the_types_of_its_columns() -> None:
    types = {"corpus_source": pa.uuid(), "k": pa.list_(pa.timestamp("us", "UTC"))}
    columns = Columns(text=("text",), template=None, id="id", keep=("source", "k")).typed(types)
    job = Job(root=Path("in"), columns=columns, config=CONFIG)
    arrived = _unpack_job(json.loads(json.dumps(pack(job))))
    assert arrived == job
    assert arrived.columns.types == types
