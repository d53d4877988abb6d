"""Search: with the reader's own config, which has to make the vectors that the dataset has; beside runs that swap."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import pipeline.engines
from pipeline.cli import main
from pipeline.config import Config, load_config, to_tables
from pipeline.dataset import Dataset, Manifest, Store, read_dataset
from pipeline.engines import Embedder, make_lightest
from pipeline.errors import ConfigError, DamageError, EngineError, RecipeError, UsageError
from pipeline.recipe import fingerprint, recipe
from pipeline.tools import Searcher, own_config, slice_dataset
from pipeline.tools.search.searcher import Encoder
from tests.support import REPOSITORY, command, texts, write_jsonl, write_parquet
from tests.support import read_dataset as table_of
from tests.support.checkpoints import write_config
from tests.support.crash import hashing_run
from tests.support.terminal import Terminal

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


def test_a_part_that_left_in_a_swap_is_no_damage_to_a_search(
    swapping: tuple[Store, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, swap = swapping
    encode, asked, loaded = Encoder.encode, list[str](), list[Config]()

    def slow(encoder: Encoder, query: str) -> NDArray[np.float32]:
        asked.append(query)
        swap()
        return encode(encoder, query)

    def load(config: Config) -> Embedder:
        loaded.append(config)
        return make_lightest(config)

    monkeypatch.setattr(Encoder, "encode", slow)
    monkeypatch.setattr(pipeline.engines, "make_lightest", load)
    hits = Searcher(store).find("word1", 100)
    assert {hit["id"] for hit in hits} == {f"doc-{n}" for n in range(20, 60)}
    assert asked == ["word1", "word1"]  # the second time with the parts that there are
    assert len(loaded) == 1


def test_a_part_that_left_in_a_swap_is_no_damage_to_a_slice(
    swapping: tuple[Store, Callable[[], None]], tmp_path: Path
) -> None:
    store, swap = swapping

    def read(manifest: Manifest) -> object:
        swap()
        return slice_dataset(store, manifest, 64, Store(root=tmp_path / "cut"))

    read_dataset(store, read)
    assert sorted(table_of(tmp_path / "cut").column("id").to_pylist()) == sorted(f"doc-{n}" for n in range(20, 60))


@pytest.mark.parametrize("keeps", [False, True])
def test_queries_between_which_a_run_swaps_find_what_is_there_then(
    swapping: tuple[Store, Callable[[], None]], keeps: bool
) -> None:
    store, swap = swapping
    searcher = Searcher(store, keeps=keeps)
    for first in (0, 20):
        assert {hit["id"] for hit in searcher.find("word1", 100)} == {f"doc-{n}" for n in range(first, first + 40)}
        swap()


def test_damage_under_a_manifest_that_stays_is_found_at_once(swapping: tuple[Store, Callable[[], None]]) -> None:
    store, _ = swapping
    next((store.root / "data").iterdir()).unlink()
    with pytest.raises(DamageError, match="verify --repair"):
        Searcher(store).find(np.ones(384), 1)


# --- the command ---


def test_an_engine_that_is_said_is_the_one_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded: list[str] = []

    def load(config: Config) -> NoReturn:
        loaded.append(config.engine.kind)
        raise EngineError("recorded")

    monkeypatch.setattr(pipeline.engines, "make_embedder", load)
    hashing_run(write_jsonl(tmp_path / "in.jsonl", texts(3)), tmp_path / "out")
    assert main(["search", str(tmp_path / "out"), "word1", "--set", "engine.kind=hashing"]) == 1
    assert loaded == ["hashing"]


def run_search(*arguments: str | Path, stdin: str) -> subprocess.CompletedProcess[str]:
    """Run `search` in a process of its own whose stdin is a pipe."""
    env = os.environ | {"COLUMNS": "60"}
    return subprocess.run(command("search", *arguments), input=stdin, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset whose rows keep a language."""
    folder = tmp_path_factory.mktemp("search")
    rows = [{**row, "lang": ("de", "en")[at % 2], "n": at} for at, row in enumerate(texts(30))]
    hashing_run(write_jsonl(folder / "in.jsonl", rows), folder / "out", corpus__keep=["lang", "n"])
    return folder / "out"


def test_a_pipe_of_queries_is_answered_one_a_line_until_an_empty_one(output: Path) -> None:
    asked = [texts(30)[at]["text"] for at in (4, 9, 22)]
    for stdin, n in (("\n".join(asked), 3), (f"{asked[0]}\n{asked[1]}\n\n{asked[2]}\n", 2), ("", 0)):
        done = run_search(output, "-i", "-k", "1", "--json", stdin=stdin)
        assert (done.returncode, done.stderr) == (0, "")
        found = [json.loads(line)[0]["id"] for line in done.stdout.splitlines()]
        assert found == ["doc-4", "doc-9", "doc-22"][:n]
    done = run_search(output, asked[2], "-i", "-k", "1", stdin=f"{asked[0]}\n")
    heads = [line.split()[1] for line in done.stdout.splitlines() if line and not line.startswith(" ")]
    assert heads == ["doc-22", "doc-4"]


def test_a_condition_is_on_the_columns_of_the_parts(output: Path) -> None:
    done = run_search(output, "word1", "-k", "30", "--json", "--where", "lang = 'en' and n < 9", stdin="")
    assert {hit["id"] for hit in json.loads(done.stdout)} == {"doc-1", "doc-3", "doc-5", "doc-7"}
    done = run_search(output, "word1", "--where", "language = 'en'", stdin="")
    assert done.returncode == 2
    assert done.stderr.startswith("embed-corpus: --where: expected columns of the dataset, id, source, row, ")
    assert done.stderr.endswith(", lang, n, found language\n")
    done = run_search(output, "word1", "--where", "n = 1000", stdin="")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "embed-corpus: search: nothing found where n = 1000\n"


@pytest.mark.parametrize("arguments", [(), ("",), (" ", "--json")])
def test_no_query_is_refused_before_an_engine_is_loaded(output: Path, arguments: tuple[str, ...]) -> None:
    done = run_search(output, *arguments, stdin="")
    assert done.returncode == 2
    assert done.stderr.startswith("embed-corpus: search: expected a query, found ")


def test_at_a_terminal_a_prompt_asks_until_ctrl_c(output: Path, tmp_path: Path) -> None:
    terminal = Terminal(command("search", output.resolve(), "-i", "-k", "1"), 70, REPOSITORY)
    terminal.watch(lambda picture: picture[-1] == "search>")
    terminal.type(f"{texts(30)[4]['text']}\n")
    terminal.watch(lambda picture: picture[-1] == "search>" and any("doc-4  in.jsonl:4" in line for line in picture))
    assert terminal.end(signal.SIGINT) == 0


def test_what_a_dataset_lacks_is_said_before_its_answer(tmp_path: Path) -> None:
    source, place = write_jsonl(tmp_path / "in.jsonl", texts(40)), tmp_path / "out"
    hashing_run(source, place, run__chunk_tokens=100)
    store = Store(root=place)
    manifest = store.read_manifest()
    assert manifest.run is not None
    assert manifest.dataset is not None
    lost = next(iter(manifest.receipts.values()))
    lines = [each for each in manifest.receipts.values() if each is not lost]
    incomplete = msgspec.structs.replace(manifest.run, state="incomplete")
    with store.lock():
        store.rewrite_manifest([manifest.dataset, *lines, incomplete])
        running = run_search(place, "word1", stdin="")
    done = run_search(place, "word1", stdin="")
    missing = f"{lost.input_rows} of 40 rows are missing"
    for ended, said in (
        (running, f"a run is changing it, and what is found may be of before; {missing}"),
        (done, f"incomplete, {missing}; `embed-corpus run` completes it"),
    ):
        assert (ended.returncode, ended.stderr) == (0, f"embed-corpus: dataset {place}: {said}\n")
        assert ended.stdout.count("in.jsonl:") == 10
