"""The deployed service: other people's code calls it by name, and runs use it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.dataset.footer import RECIPE_KEY
from tests.support import read_dataset, status
from tests.support.modal_jobs import CLASS, ROWS, house, needs_plane

pytestmark = needs_plane

SCRIPT = """
import json, modal
service = modal.Cls.from_name("vllm-embedding-snapshot", "VLLMEmbeddingSnapshot")()
print(json.dumps([service.embed.remote(["Hello world", "again"]), service.embed_with_metadata.remote(["Hello world"])]))
"""


def test_the_service_answers_plain_scripts_and_serves_runs(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000) as home:
        assert "is not deployed: this run uses its own class" in home.run("--input", "books/", "--output", "before")

        deployed = home.modal("deploy", "jobs/embedding_service.py")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        asked = home.plane.python("-c", SCRIPT, cwd=tmp_path)
        assert asked.returncode == 0, asked.stderr
        (first, second), [told] = json.loads(asked.stdout)
        assert len(first) == len(second) == 384
        assert first != second
        assert told == {"text": "Hello world", "embedding": first, "dimension": 384}

        assert "own class" not in home.run("--input", "books/", "--output", "after")
        assert [container.app for container in home.plane.seen.of(CLASS)] == ["embed-corpus", "vllm-embedding-snapshot"]
        for name in ("before", "after"):
            home.check_complete(name, tmp_path / name, ROWS)
        assert read_dataset(tmp_path / "before").equals(read_dataset(tmp_path / "after"))


def test_a_service_with_another_model_than_the_run_asks_for_is_refused(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        config = home.folder / "configs/hashing.toml"
        config.write_text(config.read_text().replace('revision = "1"', 'revision = "2"'))
        printed = home.run("--input", "books/", code=5)
        assert "embed-corpus: service: expected a run with hashing as its config had it when it was deployed" in printed


def test_an_output_keeps_its_dtype_where_the_config_leaves_it_open(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000) as home:
        config = home.folder / "configs/hashing.toml"
        said = config.read_text()
        config.write_text(said.replace('dtype = "float32"', 'dtype = "bfloat16"'))
        home.run("--input", "books/")
        config.write_text(said.replace('dtype = "float32"', 'dtype = "auto"'))
        assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        assert "this run embedded 3,000 texts" in home.run("--input", "books/", "--output", "other")
        (tmp_path / "more/books").mkdir(parents=True)
        (tmp_path / "more/books/d.jsonl").write_text('{"id": "late", "text": "came late"}\n')
        home.plane.seed("embedding-corpus", tmp_path / "more")
        assert "this run embedded 1 text" in home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", [*ROWS, {"id": "late"}])
        for name, dtype in (("books", "bfloat16"), ("other", "float32")):
            parts = home.dataset(name, tmp_path / name) / "data"
            footers = [json.loads(pq.read_metadata(part).metadata[RECIPE_KEY]) for part in parts.iterdir()]
            assert {recipe["model.dtype"] for recipe in footers} == {dtype}


def test_a_file_that_came_after_the_container_started_is_seen(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000) as home:
        assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        home.run("--input", "books/")
        (tmp_path / "more/books").mkdir(parents=True)
        (tmp_path / "more/books/d.jsonl").write_text('{"id": "late", "text": "came late"}\n')
        home.plane.seed("embedding-corpus", tmp_path / "more")
        assert "this run embedded 1 text" in home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", [*ROWS, {"id": "late"}])


@pytest.mark.parametrize(
    ("n_chunks", "more"), [(100, 300), pytest.param(1000, 10_000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_the_memory_of_the_driver_does_not_grow_with_the_number_of_chunks(
    tmp_path: Path, n_chunks: int, more: int
) -> None:
    peaks = []
    for n in (n_chunks, more):
        folder = tmp_path / str(n)
        folder.mkdir()
        with house(folder, chunk_tokens=2) as home:
            (folder / "more").mkdir()
            (folder / "more/many.jsonl").write_text("".join(f'{{"text": "{i:07} x"}}\n' for i in range(n)))
            home.plane.seed("embedding-corpus", folder / "more")
            home.run("--input", "many.jsonl", "--max-containers", "2")
            assert status(home.dataset("many", folder / "out"))["parts"] == n
            peaks.append(max(container.peak_rss_bytes for container in home.plane.seen.of("drive")))
    assert peaks[1] <= 1.1 * peaks[0]
