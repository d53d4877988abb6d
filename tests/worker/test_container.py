"""What a container does around a snapshot: the engine that wakes is the one that fell asleep."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import pipeline.engines.thread
from pipeline.chunk import Chunk, Shard, Span
from pipeline.config import load_config
from pipeline.corpus import Columns
from pipeline.dataset.volume import LocalVolume
from pipeline.engines import MadeBy
from pipeline.engines.hashing import HashingEmbedder
from pipeline.engines.vllm import VLLMEmbedder
from pipeline.errors import EngineError, UsageError
from pipeline.recipe import fingerprint, recipe
from pipeline.worker.container import Service, _unpack_job, pack
from pipeline.worker.embed import Job
from tests.support import REPOSITORY, one_span, texts, write_jsonl

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


def wanted(folder: Path) -> tuple[Chunk, Job]:
    """Return a chunk of three rows, and the job that it is part of."""
    path = write_jsonl(folder / "in/a.jsonl", texts(3))
    stat = path.stat()
    shard = Shard(source="a.jsonl", size_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
    span = Span(row_start=0, row_stop=3, byte_start=0, byte_stop=stat.st_size)
    chunk = one_span(shard, span, fingerprint(recipe(CONFIG)), last=True)
    columns = Columns(text=("text",), template=None, id="id", keep=())
    return chunk, Job(root=path.parent, columns=columns, config=CONFIG)


OUTSIDE = ["../../x", "/x", "", ".", "a/..", "link/x", "wiki/../../outputs-of-another/x"]


def test_a_chunk_is_written_below_the_volume_alone(tmp_path: Path) -> None:
    chunk, job = wanted(tmp_path)
    outputs = tmp_path / "volume/outputs"
    outputs.mkdir(parents=True)
    (outputs / "link").symlink_to(tmp_path / "elsewhere")
    running = Service(CONFIG, outputs, LocalVolume())
    try:
        for name in OUTSIDE:
            with pytest.raises(UsageError, match="expected an output below the volume"):
                running.embed_chunk(pack(chunk), pack(job), name)
        for names in ({"id": "../../../x"}, {"id": "0" * 15}, {"ready": "../x"}, {"id": ""}):
            with pytest.raises(UsageError, match="16 hex digits"):
                running.embed_chunk(pack(chunk) | names, pack(job), "wiki")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "volume"]
        assert sorted(path.name for path in outputs.iterdir()) == ["link"]

        (tmp_path / "elsewhere").mkdir()
        (outputs / "wiki/en").mkdir(parents=True)
        for folder in ("data", "rejects", ".attempts", ".next"):
            (outputs / "wiki" / folder).symlink_to(tmp_path / "elsewhere")
            with pytest.raises(UsageError, match=rf"expected {re.escape(folder)} to be a folder of its own"):
                running.embed_chunk(pack(chunk), pack(job), "wiki")
            (outputs / "wiki" / folder).unlink()
        assert [*(tmp_path / "elsewhere").iterdir()] == []

        made = running.embed_chunk(pack(chunk), pack(job), "wiki/en")
        assert made["part"] == chunk.part_name
        assert (outputs / "wiki/en/data" / chunk.part_name).exists()
    finally:
        running.close()


def test_a_volume_that_is_reached_by_a_link_is_one(tmp_path: Path) -> None:
    chunk, job = wanted(tmp_path)
    (tmp_path / "big/wiki").mkdir(parents=True)
    (tmp_path / "mount").symlink_to(tmp_path / "big")
    running = Service(CONFIG, tmp_path / "mount", LocalVolume())
    try:
        assert running.embed_chunk(pack(chunk), pack(job), "wiki")["part"] == chunk.part_name
    finally:
        running.close()


class OddVolume(LocalVolume):
    """A volume that writes down its reloads."""

    def reload(self) -> None:
        LOG.append("output")


LOG: list[str] = []


def test_only_what_is_in_question_is_reloaded(tmp_path: Path) -> None:
    chunk, job = wanted(tmp_path)
    (tmp_path / "outputs/wiki").mkdir(parents=True)
    path = tmp_path / "in/a.jsonl"
    hidden = path.rename(tmp_path / "hidden")

    def reload_corpus() -> None:
        LOG.append("corpus")
        hidden.rename(path)

    LOG.clear()
    made_by = MadeBy(container="ta-1", gpu="L4")
    running = Service(CONFIG, tmp_path / "outputs", OddVolume(), reload_corpus=reload_corpus, made_by=made_by)
    try:
        made = running.embed_chunk(pack(chunk), pack(job), "wiki")
        assert (made["part"], LOG) == (chunk.part_name, ["corpus"])
        assert (made["container"], made["gpu"]) == ("ta-1", "L4")
        assert re.fullmatch(r"numpy [\d.]+", made["versions"])
        assert running.embed_chunk(pack(chunk), pack(job), "wiki")["part"] == chunk.part_name
        assert LOG == ["corpus", "output"]
    finally:
        running.close()
