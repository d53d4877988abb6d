"""An engine is one file and one entry of ENGINES: no other source knows the name of a kind."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.dataset.store import Store
from pipeline.driver.fan_out import fan_out_here
from pipeline.driver.inventory import RunOptions
from pipeline.driver.run import run
from pipeline.engines import ENGINES, EngineKind, make_embedder
from pipeline.errors import EngineError, UsageError
from pipeline.model.tokens import make_tokenizer
from pipeline.serve.server import Server
from tests.support import REPOSITORY, local_config, read_dataset, texts, write_jsonl

SOURCES = sorted([*(REPOSITORY / "pipeline").rglob("*.py"), *(REPOSITORY / "jobs").rglob("*.py")])


class Constant:
    """An engine whose vectors tell how many tokens a text has."""

    def __init__(self, config: Config) -> None:
        self.width = config.model.dims[0]

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        vectors = np.ones((len(token_ids), self.width), np.float32)
        vectors[:, 0] = [len(ids) for ids in token_ids]
        return vectors


WITHOUT_WEIGHTS = EngineKind(make=f"{__name__}:Constant", needs_weights=False, computes_in="float16")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "constant", WITHOUT_WEIGHTS)


@pytest.mark.usefixtures("fake")
def test_an_engine_that_is_entered_makes_a_dataset(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", texts(50))
    store = Store(root=tmp_path / "out")
    config = local_config("engine.kind=constant")
    outcome = run(str(tmp_path / "in.jsonl"), store, config, fan_out=fan_out_here(store), options=RunOptions())
    assert (outcome.run.state, outcome.totals["embedded_rows"]) == ("complete", 50)
    table = read_dataset(store.root)
    firsts = np.array(table.column("embedding").to_pylist())[:, 0]
    assert np.corrcoef(firsts, table.column("n_tokens").to_numpy())[0, 1] > 0.9
    assert config.model.dtype == "float16"


@pytest.mark.usefixtures("fake")
def test_an_engine_is_used_as_its_entry_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = local_config("engine.kind=constant", "model.location=no/such")
    assert make_embedder(config).embed([[1, 2]])[0, 0] == 2
    with pytest.raises(UsageError, match=r"expected engine\.kind vllm, found constant"):
        Server(config, host="127.0.0.1", port=0, key=None)

    monkeypatch.setitem(ENGINES, "constant", replace(WITHOUT_WEIGHTS, needs_weights=True, serves_http=True))
    with pytest.raises(EngineError, match="no/such"):
        make_tokenizer(config, max_tokens=8)
    with pytest.raises(EngineError, match="no/such"):
        Server(config, host="127.0.0.1", port=0, key=None)


def test_every_engine_has_its_file_and_is_made_with_a_config() -> None:
    files = {engine.make.partition(":")[0] for engine in ENGINES.values()}
    assert len(files) == len(ENGINES)
    assert all(file.startswith("pipeline.engines.") for file in files)
    for engine in ENGINES.values():
        assert list(inspect.signature(resolve_name(engine.make)).parameters) == ["config"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_no_source_compares_with_the_name_of_a_kind(path: Path) -> None:
    named = {
        constant.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Compare, ast.match_case))
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant)
    }
    assert not named & ENGINES.keys()
