"""A Gemma 3 the size of a toy through `modal run`: the path of the production model, at three of its sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import parse_config
from pipeline.model.tokens import make_tokenizer
from tests.support import read_dataset, status, texts, write_jsonl
from tests.support.checkpoints import MAX_TOKENS, model_tables, write_config
from tests.support.hub import Hub, hub
from tests.support.modal_jobs import CLASS, House, house, needs_plane
from tests.support.parity import eager

pytestmark = [needs_plane, pytest.mark.filterwarnings("ignore")]  # of torch and transformers, about themselves
ROWS = texts(20)
DIMS = (240, 64, 4)
LICENCE = "tests/gemma comes under a licence: read it"


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a checkpoint as the hub takes them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def point_at(server: Hub, home: House) -> None:
    """Let the containers take a hub of this machine for that of Hugging Face."""
    resources = home.folder / "jobs/resources.py"
    resources.write_text(resources.read_text().replace('"HF_HOME": ', f'"HF_ENDPOINT": "{server.url}", "HF_HOME": '))


def vectors(home: House, dim: int, destination: Path) -> NDArray[np.float32]:
    output = home.dataset(f"gemma-{dim}", destination)
    found = np.stack(read_dataset(output).column("embedding").to_numpy(zero_copy_only=False))
    assert found.shape == (len(ROWS), dim)
    return found.astype(np.float32)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    found: NDArray[np.float64] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return found


def test_weights_are_downloaded_once_and_one_container_serves_three_sizes_with_the_vectors_of_hugging_face(
    checkpoints: Path, tmp_path: Path
) -> None:
    folder = checkpoints / "causal-st"
    model = {"name": "tests/gemma", "location": "", "revision": "CausalLM", "attention": "causal"}
    tables = model_tables(folder, **model, licence_notice=LICENCE)
    tables["engine"]["sleep_mode"] = True  # which this build of vLLM refuses
    gemma = "configs/gemma.toml"
    with hub("tests/gemma") as server, house(tmp_path, seeded=False) as home:
        commit = server.commit("CausalLM", content(folder))
        write_config(home.folder / "configs/gemma.toml", tables)
        point_at(server, home)
        home.plane.seed("embedding-corpus", write_jsonl(tmp_path / "more/g.jsonl", ROWS).parent)
        early = home.run("--input", "g.jsonl", code=1, config=gemma)
        assert "not on this machine" in early
        assert "download_weights" in early
        assert home.plane.seen.of(CLASS) == []
        downloaded = home.modal("run", "jobs/embedding_service.py::download_weights", config=gemma)
        assert downloaded.returncode == 0, downloaded.stdout + downloaded.stderr
        assert f"tests/gemma {commit}: /cache/hf/hub/" in downloaded.stdout
        n_requests = len(server.requests)
        server.commit("CausalLM", {"config.json": b"moved"})  # what is on the volume stays what a run takes
        deployed = home.modal("deploy", "jobs/embedding_service.py", config=gemma)
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        for dim in DIMS:
            printed = home.run("--input", "g.jsonl", "--output", f"gemma-{dim}", "--dim", str(dim), config=gemma)
            assert printed.count(LICENCE) == 1
        assert len(home.plane.seen.of(CLASS)) == 1
        assert home.plane.seen.rpcs["ContainerCheckpoint"] == 1  # so the engine was held against itself after it
        found = {dim: vectors(home, dim, tmp_path / f"out-{dim}") for dim in DIMS}
        assert {status(tmp_path / f"out-{dim}")["revision"] for dim in DIMS} == {commit}
        assert len(server.requests) == n_requests

    config = parse_config(model_tables(folder), where="tests")
    windows = make_tokenizer(config, max_tokens=MAX_TOKENS).windows([row["text"] for row in ROWS])
    expected = eager(folder, [of_text[0].ids for of_text in windows])
    for dim in DIMS:
        assert np.sum(unit(found[dim]) * unit(expected[:, :dim]), axis=1).min() >= 0.9999


@pytest.mark.slow
def test_the_download_of_a_gated_model_without_a_token_ends_with_one_line(checkpoints: Path, tmp_path: Path) -> None:
    folder = checkpoints / "causal-st"
    with hub("tests/gemma") as server, house(tmp_path, seeded=False) as home:
        server.commit("main", content(folder))
        server.token = "hf_secret"
        point_at(server, home)
        write_config(home.folder / "configs/gemma.toml", model_tables(folder, name="tests/gemma", location=""))
        done = home.modal("run", "jobs/embedding_service.py::download_weights", config="configs/gemma.toml")
        assert done.returncode == 1
        [line] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert "gated; expected the token of an account with access in HF_TOKEN, found none" in line


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"n_parameters": 1.2e10, "kv_bytes_per_token": 3072}, "modal.gpu T4: expected room for weights of 44.7 GiB"),
        pytest.param({"pooling": "mean"}, "model.pooling is 'mean', the checkpoint says", marks=pytest.mark.slow),
    ],
    ids=["too large", "another pooling"],
)
def test_a_model_that_does_not_fit_is_refused_before_an_engine_starts(
    checkpoints: Path, tmp_path: Path, model: dict[str, Any], said: str
) -> None:
    with house(tmp_path, seeded=False) as home:
        home.plane.seed("hf-embedding-cache", checkpoints)
        home.plane.seed("embedding-corpus", write_jsonl(tmp_path / "more/g.jsonl", ROWS).parent)
        tables = model_tables(Path("/cache/hf/causal-st"), **model) | {"modal": {"gpu": "T4"}}
        write_config(home.folder / "configs/wrong.toml", tables)
        assert said in home.run("--input", "g.jsonl", config="configs/wrong.toml", code=2)
        assert home.plane.seen.of(CLASS) == []


def test_snapshots_can_be_turned_off(tmp_path: Path) -> None:
    with house(tmp_path, seeded=False, modal="snapshot = false") as home:
        home.plane.seed("embedding-corpus", write_jsonl(tmp_path / "more/g.jsonl", ROWS).parent)
        deployed = home.modal("deploy", "jobs/embedding_service.py")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        home.run("--input", "g.jsonl")
        home.check_complete("g", tmp_path / "out", ROWS)
        assert home.plane.seen.rpcs["ContainerCheckpoint"] == 0
