"""A dataset comes from anybody: no command runs, imports, opens, changes or deletes what it names outside itself."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.chunk import Shard, Span
from pipeline.cli import main
from pipeline.config import ENGINES, Config, load_config, to_tables
from pipeline.dataset.volume import Attempt
from pipeline.errors import EngineError
from pipeline.files import file_checksum
from pipeline.model import hub
from pipeline.model.files import locate
from pipeline.recipe import fingerprint, recipe
from pipeline.vectors import fixed_size_list
from tests.support import HASHING, REPOSITORY, one_span, texts, write_jsonl
from tests.support.crash import hashing_run
from tests.support.many import Call, run_all


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a corpus `in`, its dataset `out` and files of a person beside them."""
    folder = tmp_path_factory.mktemp("sound")
    write_jsonl(folder / "in/a.jsonl", [*texts(30), {"id": "bad", "text": None}])
    hashing_run(folder / "in", folder / "out", run__chunk_tokens=150)
    (folder / "mine").mkdir()
    for name in ("x.json", "x.parquet", "manifest.jsonl", ".x.1.tmp", "x.arrow"):
        (folder / "mine" / name).write_text("mine")
    return folder


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder."""
    return Path(shutil.copytree(sound, tmp_path / "place"))


def lines_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def write_lines(output: Path, lines: list[dict[str, Any]]) -> None:
    (output / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def forge(output: Path, change: Callable[[dict[str, Any]], object], *, signed: bool = True) -> None:
    """Change the dataset line of a manifest, by default with the fingerprint of what comes out, in all places."""
    first, *others = lines_of(output)
    change(first)
    if signed:
        mark = fingerprint(first["recipe"])
        for line in (first, *others):
            if "fingerprint" in line:
                line["fingerprint"] = mark
    write_lines(output, [first, *others])


class Watch:
    """Sees whoever opens, changes, moves or deletes a file of some folders, by the system's own notices (inotify)."""

    MASK = 0x2 | 0x4 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400  # modified, attributes, opened, moved, made, deleted

    def __init__(self, *folders: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._inotify >= 0
        for folder in folders:
            assert self._libc.inotify_add_watch(self._inotify, os.fsencode(folder), self.MASK) >= 0

    def seen(self) -> bytes:
        """Return the notices since the last call; none is b""."""
        try:
            return os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            return b""


def test_the_watch_sees_what_pyarrow_opens(sound: Path, tmp_path: Path) -> None:
    part = next((sound / "out/data").iterdir())
    watch = Watch(sound / "out/data")
    assert watch.seen() == b""
    pq.ParquetFile(part).close()
    assert b"part-" in watch.seen()


# --- search: whose code, whose model ---


RECORDED: list[Config] = []


def records(config: Config) -> NoReturn:
    """Keep what an engine was to load."""
    RECORDED.append(config)
    raise EngineError("recorded")


@pytest.fixture
def hub_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Let engines only record what they are to load, and the hub what it is asked for."""
    calls: list[tuple[str, str]] = []

    def resolve(name: str, revision: str) -> str:
        calls.append((name, revision))
        return "a" * 40

    def fetch(name: str, commit: str, files: object) -> Path:
        calls.append((name, commit))
        raise EngineError("recorded")

    for kind in ("vllm", "sentence-transformers"):
        monkeypatch.setitem(ENGINES, kind, replace(ENGINES[kind], make=f"{__name__}:records"))
    monkeypatch.setattr(hub, "resolve", resolve)
    monkeypatch.setattr(hub, "fetch", fetch)
    RECORDED.clear()
    return calls


def model_with_code(folder: Path) -> Path:
    """Write MiniLM's files with code that a loader which trusts them would run."""
    shutil.copytree(locate(load_config(REPOSITORY / "configs/local.toml").model), folder)
    settings = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel"}
    (folder / "config.json").write_text(json.dumps(settings | {"auto_map": code}))
    (folder / "evil.py").write_text(
        f'open({str(folder / "PWNED")!r}, "w").write("ran")\n'
        "from transformers import BertConfig, BertModel\n"
        "class EvilConfig(BertConfig): pass\n"
        "class EvilModel(BertModel):\n    config_class = EvilConfig\n"
    )
    return folder


OUR_REVISION = load_config(REPOSITORY / "configs/local.toml").model.revision


@pytest.mark.parametrize("kind", ["sentence-transformers", "vllm"])
@pytest.mark.parametrize("where", ["a folder in the dataset", "a package", "a name of the hub"])
def test_search_loads_the_model_of_the_readers_config_whatever_the_dataset_says(
    place: Path, hub_calls: list[tuple[str, str]], capfd: pytest.CaptureFixture[str], kind: str, where: str
) -> None:
    evil = model_with_code(place / "out/model")
    watch = Watch(evil)
    said = {"a folder in the dataset": str(evil), "a package": "package:evil/model", "a name of the hub": ""}[where]

    def change(line: dict[str, Any]) -> None:
        line["recipe"] |= {"engine.kind": kind, "model.revision": OUR_REVISION}
        line["config"]["engine"]["kind"] = kind
        line["config"]["model"] |= {"location": said, "trust_remote_code": True, "golden": "/mine/golden.json"}
        if not said:
            line["config"]["model"]["name"] = "evil/model"

    forge(place / "out", change)
    assert main(["search", str(place / "out"), "hello"]) == 1
    assert capfd.readouterr().err == "embed-corpus: recorded\n"
    ours = load_config(REPOSITORY / "configs/local.toml")
    assert [(each.model.location, each.model.golden, each.model.trust_remote_code) for each in RECORDED] == [
        (ours.model.location, ours.model.golden, False)
    ]
    assert (RECORDED[0].model.name, RECORDED[0].engine.kind) == (ours.model.name, "vllm")
    assert (hub_calls, watch.seen(), (evil / "PWNED").exists()) == ([], b"", False)


@pytest.mark.parametrize("name", ["evil/model", "../../mine", "/mine", "hashing\n", 7, None, ["a"], "x" * 100_000])
def test_a_model_that_no_config_of_the_reader_has_is_named_and_not_looked_for(
    place: Path, hub_calls: list[tuple[str, str]], capfd: pytest.CaptureFixture[str], name: object
) -> None:
    forge(place / "out", lambda line: line["recipe"].update({"model.name": name, "engine.kind": "vllm"}))
    assert main(["search", str(place / "out"), "hello"]) == 2
    error = capfd.readouterr().err
    assert error.startswith("embed-corpus: search: expected the config of the model that made the dataset, ")
    assert "--config names it" in error
    assert error[:-1].isprintable()
    assert len(error) < 500
    assert (hub_calls, RECORDED) == ([], [])


def test_a_revision_of_a_dataset_is_never_asked_for(
    place: Path, hub_calls: list[tuple[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    config = load_config(REPOSITORY / "configs/kalm-gemma3-12b.toml")
    proposed = "b" * 40  # a commit that somebody proposed to the owner of a model whose code the reader trusts

    def change(line: dict[str, Any]) -> None:
        line["recipe"] = recipe(config) | {"model.revision": proposed, "run.dim": 384}
        line["config"] = to_tables(config)

    forge(place / "out", change)
    assert main(["search", str(place / "out"), "hello"]) == 5
    assert f'model.revision is "{proposed}" in the dataset and "{"a" * 40}" here' in capfd.readouterr().err
    assert (hub_calls, RECORDED) == ([(config.model.name, "CausalLM")], [])


# --- every command ---


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda line: line["recipe"].pop(key)


def saying(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda line: line["recipe"].update({key.replace("__", "."): value for key, value in values.items()})


def with_line(output: Path, **values: Any) -> None:
    """Change the first receipt of a manifest."""
    lines = lines_of(output)
    next(line for line in lines if line["kind"] == "receipt").update(values)
    write_lines(output, lines)


def with_attempt(output: Path, name: str) -> None:
    """Put down an attempt whose chunk has a name of ours in the form of a path."""
    chunk = one_span(Shard(source="a.jsonl", size_bytes=1, mtime_ns=1), Span(row_start=0, row_stop=1), "f", last=True)
    attempt = Attempt(chunk=replace(chunk, id=name), deaths=5)
    (output / ".attempts").mkdir(exist_ok=True)
    (output / ".attempts/1.json").write_bytes(msgspec.json.encode(attempt))


def with_columns(output: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write each part with other columns under its own footer, and its new size into the manifest."""
    lines = lines_of(output)
    for line in lines:
        if line["kind"] == "receipt":
            path = output / "data" / line["part"]
            table = pq.read_table(path)
            pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)
            line |= {"size_bytes": path.stat().st_size, "checksum": file_checksum(path)}
    write_lines(output, lines)


def with_vectors(table: pa.Table, vectors: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index("embedding"), "embedding", vectors)


def nan_vectors(table: pa.Table) -> pa.Table:
    return with_vectors(table, fixed_size_list(np.full((len(table), 384), np.nan, np.float16)))


# What is in a forged dataset, by what it does. `mine` is the folder of a person beside it.
FORGERIES: dict[str, Callable[[Path, Path], object]] = {
    "location and golden": lambda output, mine: forge(
        output,
        lambda line: line["config"]["model"].update(
            location=str(mine), golden=str(mine / "x.json"), trust_remote_code=True
        ),
    ),
    "an engine that is a path": lambda output, mine: forge(output, saying(engine__kind=f"{mine}/x:records")),
    "an engine that is a list": lambda output, mine: forge(output, saying(engine__kind=["hashing"])),
    "a dim of text": lambda output, mine: forge(output, saying(run__dim="384")),
    "a dim of 7 TiB": lambda output, mine: forge(output, saying(run__dim=10**12)),
    "a dim that is true": lambda output, mine: forge(output, saying(run__dim=True)),
    "no dim": lambda output, mine: forge(output, without("run.dim")),
    "a wide model": lambda output, mine: forge(output, lambda line: line["config"]["model"].update(dims=[10**13])),
    "an empty recipe": lambda output, mine: forge(output, lambda line: line.update(recipe={})),
    "an empty config": lambda output, mine: forge(output, lambda line: line.update(config={})),
    "a config of lists": lambda output, mine: forge(output, lambda line: line.update(config={"model": [], "run": 1})),
    "a template with code": lambda output, mine: forge(output, saying(corpus__text="{text.__class__} <script>|`")),
    "a nan": lambda output, mine: forge(output, lambda line: line["config"]["modal"].update(usd_per_hour="nan")),
    "a source elsewhere": lambda output, mine: with_line(output, source=str(mine / "x.parquet")),
    "a source above": lambda output, mine: with_line(output, source="../mine/x.parquet"),
    "a part elsewhere": lambda output, mine: with_line(output, part=f"../../{mine.name}/x.parquet"),
    "another's part": lambda output, mine: with_line(output, part="x.parquet", has_rejects=True),
    "a part's name without end": lambda output, mine: with_line(output, part="x" * 5000 + ".parquet"),
    "a part's name of controls": lambda output, mine: with_line(output, part="\x1b[2J.parquet"),
    "a root of the system": lambda output, mine: with_line(output, root="/"),
    "rows without end": lambda output, mine: with_line(output, input_rows=2**62, passages=2**62),
    "an attempt that is a path": lambda output, mine: with_attempt(output, f"../../{mine.name}/x"),
    "an attempt that is an absolute path": lambda output, mine: with_attempt(output, str(mine / "x")),
    "vectors of text": lambda output, mine: with_columns(
        output, lambda table: with_vectors(table, pa.array(["a"] * len(table)))
    ),
    "narrower vectors": lambda output, mine: with_columns(
        output, lambda table: with_vectors(table, fixed_size_list(np.ones((len(table), 3), np.float16)))
    ),
    "vectors that are no numbers": lambda output, mine: with_columns(output, nan_vectors),
    "no vectors": lambda output, mine: with_columns(output, lambda table: table.drop_columns("embedding")),
    "no ids": lambda output, mine: with_columns(output, lambda table: table.drop_columns("id")),
    "nothing but vectors": lambda output, mine: with_columns(output, lambda table: table.select(["embedding"])),
}


def calls_on(place: Path) -> list[Call]:
    """Return every command on a dataset, those that change it last."""
    output, cut = place / "out", place / "cut"
    source = ("--input", place / "in", "--output", output, *HASHING, "--set", "run.chunk_tokens=150")
    commands: list[tuple[str | Path, ...]] = [
        ("status", output),
        ("verify", output, "--input", place / "in"),
        ("rejects", output),
        ("search", output, "word1"),
        ("plan", *source),
        ("slice", output, "--dim", "64", cut),
        ("run", *source),
        ("verify", output, "--repair"),
        ("run", *source, "--rebuild"),
    ]
    return [Call(command) for command in commands]


def test_no_command_reaches_out_of_a_forged_dataset(sound: Path, tmp_path: Path) -> None:
    """In one process, as an engine is imported once: for each forgery every command."""
    places: dict[str, Path] = {}
    for number, (name, change) in enumerate(FORGERIES.items()):
        places[name] = Path(shutil.copytree(sound, tmp_path / str(number)))
        change(places[name] / "out", places[name] / "mine")
    watch = Watch(*(place / "mine" for place in places.values()))
    calls = [(name, call) for name, place in places.items() for call in calls_on(place)]
    wrong = []
    for (name, call), done in zip(calls, run_all([call for _, call in calls]), strict=True):
        printed = (done.stdout + done.stderr).split("\n")
        if done.returncode not in (0, 2, 3, 5, 6, 7) or not all(line.isprintable() for line in printed):
            wrong.append(f"{name}: {call.arguments[0]}: exit {done.returncode}: {done.stderr}")
    assert wrong == []
    assert watch.seen() == b""


def test_a_manifest_and_a_slice_of_an_old_one_name_no_path_of_this_machine(place: Path) -> None:
    """Datasets of earlier versions hold these keys: they are read, and what is made of them has them no more."""
    model = lines_of(place / "out")[0]["config"]["model"]
    assert not {"location", "golden", "trust_remote_code"} & model.keys()
    forge(
        place / "out", lambda line: line["config"]["model"].update(location="/home/x", golden="y", trust_remote_code=1)
    )
    done = run_all([Call(("slice", place / "out", "--dim", "64", "--allow-untrained-dim", place / "cut"))])[0]
    assert done.returncode == 0, done.stderr
    assert lines_of(place / "cut")[0]["config"]["model"] == model
