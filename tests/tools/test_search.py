"""Search: with the reader's own config, which has to make the vectors that the dataset has; beside runs that swap."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pipeline.tools
from pipeline.cli import main
from pipeline.config import Config, load_config, to_tables
from pipeline.dataset import Dataset, Manifest, Store, read_dataset
from pipeline.errors import ConfigError, DamageError, RecipeError, UsageError
from pipeline.recipe import fingerprint, recipe
from pipeline.tools import embed_query, nearest, own_config, slice_dataset
from tests.support import REPOSITORY, texts, write_jsonl, write_parquet
from tests.support import read_dataset as table_of
from tests.support.checkpoints import write_config
from tests.support.crash import hashing_run

LOCAL = REPOSITORY / "configs/local.toml"
HASHING = REPOSITORY / "configs/hashing.toml"


def dataset_of(path: Path, *overrides: str, **values: Any) -> Dataset:
    """Return the dataset line that a run with a config would write, with other values in its recipe."""
    config = load_config(path, overrides)
    found = recipe(config) | {key.replace("__", "."): value for key, value in values.items()}
    return Dataset(fingerprint=fingerprint(found), recipe=found, config=to_tables(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model__dtype", "bfloat16"),
        ("model__pooling", "last"),
        ("model__max_tokens", 128),
        ("model__document_prompt", "passage: "),
        ("model__revision", "2"),
        ("model__name", "another"),
        ("engine__kind", "vllm"),
        ("engine__kind", "pipeline.engines.hashing:HashingEmbedder"),
        ("run__dim", 1000),
    ],
)
def test_a_key_that_gives_other_vectors_is_named_with_both_values(key: str, value: object) -> None:
    dataset = dataset_of(HASHING, **{key: value})
    with pytest.raises(RecipeError) as refused:
        own_config(dataset, HASHING)
    assert f"found that {key.replace('__', '.')} is {json.dumps(value)} in the dataset and " in str(refused.value)
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    ("key", "value"),
    [("corpus__text", "{title}"), ("corpus__on_long", "reject"), ("run__dim", 64), ("a__later__key", 1)],
)
def test_a_key_that_changes_no_querys_vector_is_no_reason(key: str, value: object) -> None:
    assert own_config(dataset_of(HASHING, **{key: value}), None).model.name == "hashing"


def test_the_width_and_an_open_dtype_are_those_of_the_dataset() -> None:
    for dtype in ("bfloat16", "float32", "float16"):
        dataset = dataset_of(LOCAL, "engine.kind=hashing", model__dtype=dtype, run__dim=200)
        config = own_config(dataset, None)
        assert (config.model.dtype, config.dim, config.engine.kind) == (dtype, 200, "hashing")
    with pytest.raises(RecipeError, match=r'model\.dtype is "float8" in the dataset and "float32" here'):
        own_config(dataset_of(LOCAL, "engine.kind=hashing", model__dtype="float8"), None)


def test_another_prompt_for_queries_is_refused_unless_it_is_said() -> None:
    dataset = dataset_of(HASHING, "model.query_prompt=find: ")
    with pytest.raises(RecipeError, match=r'model\.query_prompt is "find: " in the dataset and "" here'):
        own_config(dataset, None)
    for prompt in ("find: ", "another: ", ""):
        assert own_config(dataset, None, [f"model.query_prompt={prompt}"]).model.query_prompt == prompt


def test_a_config_of_the_environment_is_taken_for_its_own_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = to_tables(load_config(HASHING, ["model.query_prompt=mine: "]))
    monkeypatch.setenv("EMBED_CONFIG", str(write_config(tmp_path / "mine.toml", tables)))
    mine = dataset_of(HASHING, "model.query_prompt=mine: ")
    assert own_config(mine, None).model.query_prompt == "mine: "
    theirs = dataset_of(HASHING, "model.query_prompt=theirs: ")
    with pytest.raises(RecipeError, match=r'"mine: " here, in .*/mine\.toml \(\$EMBED_CONFIG\)\. Name the config'):
        own_config(theirs, None)
    with pytest.raises(ConfigError, match=r"^--set model\.max_tokens expected int, found 'none'"):
        own_config(mine, None, ["model.max_tokens=none"])
    unknown = dataset_of(HASHING, model__name="nobody's")
    with pytest.raises(UsageError, match=r"found none of that name in .*mine\.toml \(\$EMBED_CONFIG\) or among those"):
        own_config(unknown, None)
    other = dataset_of(LOCAL, "engine.kind=hashing", "model.dtype=float32")
    assert own_config(other, None).model.name == "sentence-transformers/all-MiniLM-L6-v2"


def test_the_command_takes_a_config_and_keys_as_a_run_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tables = to_tables(load_config(HASHING, ["model.name=mine", "model.max_tokens=7"]))
    config = write_config(tmp_path / "mine.toml", tables)
    source, output = write_jsonl(tmp_path / "in.jsonl", texts(9)), tmp_path / "out"
    assert main(["run", "--input", str(source), "--output", str(output), "--config", str(config)]) == 0
    for arguments, code, said in (
        ((), 2, 'the model that made the dataset, "mine", found none of that name'),
        (("--config", "configs/hashing.toml"), 5, 'model.name is "mine" in the dataset and "hashing" here'),
        (("--config", str(config), "--set", "model.max_tokens=8"), 5, "model.max_tokens is 7 in the dataset and 8"),
        (("--config", "none.toml"), 2, "none.toml: expected a readable TOML file"),
        (("--config", str(config)), 0, ""),
    ):
        capfd.readouterr()
        assert main(["search", str(output), texts(9)[4]["text"], "-k", "1", "--json", *arguments]) == code
        found = capfd.readouterr()
        assert said in found.err
        if not code:
            assert [hit["id"] for hit in json.loads(found.out)] == ["doc-4"]


def test_json_has_kept_values_that_json_has_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kept = {"t": datetime(2026, 1, 2, tzinfo=UTC), "d": Decimal("1.50"), "b": b"\xff\x00", "n": 7}
    write_parquet(tmp_path / "in.parquet", [{"id": "a", "text": "one", **kept}])
    hashing_run(tmp_path / "in.parquet", tmp_path / "out", corpus__keep=[*kept])
    assert main(["search", str(tmp_path / "out"), "one", "--json"]) == 0
    [hit] = json.loads(capfd.readouterr().out)
    assert hit["t"].startswith("2026-01-02T00:00:00")
    assert (hit["d"], hit["b"], hit["n"]) == ("1.50", "ff00", 7)


# --- beside a run that swaps ---


@pytest.fixture
def swapping(tmp_path: Path) -> tuple[Store, Callable[[], None]]:
    """Return a dataset of several parts, and what replaces all of them, once."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    hashing_run(write_jsonl(source, texts(40)), output, run__chunk_tokens=100)
    left = [True]

    def swap() -> None:
        if left:
            left.pop()
            hashing_run(write_jsonl(source, texts(40, start=20)), output, run__chunk_tokens=100)

    return Store(root=output), swap


def query(store: Store) -> NDArray[np.float32]:
    dataset = store.read_manifest().dataset
    assert dataset is not None
    return embed_query("word1", own_config(dataset, None))


def test_a_part_that_left_in_a_swap_is_no_damage_to_a_search(swapping: tuple[Store, Callable[[], None]]) -> None:
    store, swap = swapping
    vector = query(store)

    def read(manifest: Manifest) -> list[dict[str, Any]]:
        swap()
        return nearest(store, manifest, vector, 100)

    assert {hit["id"] for hit in read_dataset(store, read)} == {f"doc-{n}" for n in range(20, 60)}


def test_a_part_that_left_in_a_swap_is_no_damage_to_a_slice(
    swapping: tuple[Store, Callable[[], None]], tmp_path: Path
) -> None:
    store, swap = swapping

    def read(manifest: Manifest) -> object:
        swap()
        return slice_dataset(store, manifest, 64, Store(root=tmp_path / "cut"))

    read_dataset(store, read)
    assert sorted(table_of(tmp_path / "cut").column("id").to_pylist()) == sorted(f"doc-{n}" for n in range(20, 60))


def test_the_commands_read_the_manifest_again(
    swapping: tuple[Store, Callable[[], None]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store, swap = swapping
    asked: list[str] = []

    def slow(text: str, config: Config) -> NDArray[np.float32]:
        asked.append(text)
        swap()
        return embed_query(text, config)

    monkeypatch.setattr(pipeline.tools, "embed_query", slow)
    assert main(["search", str(store.root), "word1", "-k", "100", "--json"]) == 0
    assert {hit["id"] for hit in json.loads(capfd.readouterr().out)} == {f"doc-{n}" for n in range(20, 60)}
    assert asked == ["word1"]  # the engine was loaded once


def test_damage_under_a_manifest_that_stays_is_found_at_once(swapping: tuple[Store, Callable[[], None]]) -> None:
    store, _ = swapping
    next((store.root / "data").iterdir()).unlink()
    n_read = 0

    def read(manifest: Manifest) -> list[dict[str, Any]]:
        nonlocal n_read
        n_read += 1
        return nearest(store, manifest, np.zeros(384, np.float32), 1)

    with pytest.raises(DamageError, match="verify --repair"):
        read_dataset(store, read)
    assert n_read == 1
