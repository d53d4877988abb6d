"""Who may import what: arrows between rooms point down, Modal only at the edge, engines only where one is made."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.dataset.manifest import Dataset, Run
from pipeline.dataset.store import Store
from pipeline.recipe import recipe
from tests.support import REPOSITORY, local_config, texts, write_jsonl, write_parquet

HEAVY = ("pyarrow", "numpy", "pandas", "tokenizers", "huggingface_hub")
ENGINES = ("vllm", "torch", "sentence_transformers", "transformers")
SOURCES = sorted((REPOSITORY / "pipeline").rglob("*.py"))
EDGE = sorted((REPOSITORY / "jobs").rglob("*.py"))
ROOMS = sorted(path.parent.name for path in (REPOSITORY / "pipeline").glob("*/__init__.py"))

WITHOUT_ENGINES = f"""
import sys
sys.modules.update(dict.fromkeys({("modal", *ENGINES)}))
import pipeline.driver.run, pipeline.cli, pipeline.tools.verify, pipeline.tools.search
"""
COMMAND = f"""
import json, sys
from pipeline.cli import main
try:
    code = main(json.loads(sys.argv[1]))
except SystemExit as end:
    code = end.code
loaded = [name for name in {("modal", *ENGINES)} + tuple(sys.argv[2:]) if name in sys.modules]
assert code == 0 and not loaded, (code, loaded)
"""


def imports(path: Path) -> set[str]:
    """Return the top-level names of all packages that a source imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found.add(ast.unparse(node.args[0]).strip("'\"").split(".")[0])
    return found


def python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return an output that says it is complete."""
    store = Store(root=tmp_path / "out")
    with store.lock():
        dataset = Dataset(fingerprint="f", recipe=recipe(local_config()), config={})
        store.rewrite_manifest([dataset, Run(state="complete", input="in", started_at=1.0)])
    return store.root


# Who may import whom: a room or a file of the root may import what has a smaller number, and nothing else.
FLOORS = {
    **dict.fromkeys(["errors"], 0),
    **dict.fromkeys(["schema", "chunk", "console", "hub", "kinds", "shipped", "tables"], 1),
    **dict.fromkeys(["files", "vectors", "config"], 2),
    **dict.fromkeys(["recipe"], 3),
    **dict.fromkeys(["model", "corpus", "dataset"], 4),
    **dict.fromkeys(["engines"], 5),
    **dict.fromkeys(["worker"], 6),
    **dict.fromkeys(["driver", "tools", "serve", "arguments"], 7),
    **dict.fromkeys(["commands"], 8),
    **dict.fromkeys(["cli", "python"], 9),
    **dict.fromkeys(["__init__", "__main__"], 10),
    **dict.fromkeys(["jobs"], 11),
}
STRANGERS = {"engines": {"corpus", "dataset"}, "tools": {"worker"}, "serve": {"worker"}}  # beside the floors


def place_of(path: Path) -> str:
    """Return the room of a source, or its own name where it is in none."""
    parts = path.relative_to(REPOSITORY).parts
    return "jobs" if parts[0] == "jobs" else parts[1].removesuffix(".py")


def wrong_arrows(place: str, source: str) -> list[str]:
    """Return the imports of a source that go up, sideways or deeper than the names that another room offers."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        for module in imported_modules(node):
            if module.split(".")[0] != "pipeline" or module == "pipeline":
                continue
            _, to, *deeper = module.split(".")
            if to == place:
                continue
            if FLOORS[to] >= FLOORS[place] or to in STRANGERS.get(place, ()) or deeper:
                wrong.append(module)
    return wrong


def imported_modules(node: ast.AST) -> list[str]:
    """Return what a node imports, names of a room that are not in its `__all__` as modules below it."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if not isinstance(node, ast.ImportFrom) or not node.module:
        return []
    if node.module == "pipeline":
        return [f"pipeline.{name.name}" for name in node.names]
    offered = getattr(import_module(node.module), "__all__", None) if node.module.startswith("pipeline.") else None
    names = [name.name for name in node.names]
    return [node.module if offered is None or name in offered else f"{node.module}.{name}" for name in names]


@pytest.mark.parametrize("path", [*SOURCES, *EDGE], ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_arrows_point_down_and_end_at_what_a_room_offers(path: Path) -> None:
    assert wrong_arrows(place_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("corpus", "from pipeline.dataset import Store"),  # sideways
        ("engines", "from pipeline.dataset import Store"),
        ("dataset", "def f():\n    from pipeline.driver import RunOptions"),  # up, if only in a function
        ("tools", "from pipeline.worker import Job"),
        ("worker", "from pipeline.corpus.rows import Rows"),  # deeper than what is offered
        ("driver", "from pipeline.corpus import jsonl"),
        ("driver", "import pipeline.corpus.jsonl"),
        ("jobs", "from pipeline.driver.run import run"),
        ("console", "from pipeline.files import publish_file"),
    ],
)
def test_a_wrong_arrow_is_seen(place: str, source: str) -> None:
    assert len(wrong_arrows(place, source)) == 1


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_what_it_offers(room: str) -> None:
    offered = import_module(f"pipeline.{room}")
    assert sorted(set(offered.__all__)) == sorted(offered.__all__)
    assert all(hasattr(offered, name) for name in offered.__all__)


def test_the_house_stays_small() -> None:
    sizes = {path.relative_to(REPOSITORY).as_posix(): len(path.read_text().splitlines()) for path in (*SOURCES, *EDGE)}
    assert {name: size for name, size in sizes.items() if size > 250} == {}
    assert len([path for path in SOURCES if path.parent.name == "pipeline"]) <= 14
    long = [
        f"{path.name}:{node.name}"
        for path in (*SOURCES, *EDGE)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert long == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_the_pipeline_never_imports_modal_or_the_edge_and_only_engines_import_engines(path: Path) -> None:
    forbidden = {"modal", "jobs", "tests", *(() if path.parent.name == "engines" else ENGINES)}
    assert not imports(path) & forbidden


def test_the_rule_sees_the_imports_that_there_are() -> None:
    assert "vllm" in imports(REPOSITORY / "pipeline/engines/vllm.py")
    assert "pyarrow" in imports(REPOSITORY / "pipeline/corpus/parquet.py")


def test_everything_but_the_engines_imports_without_them() -> None:
    python(WITHOUT_ENGINES)


def test_help_loads_no_engine() -> None:
    python(COMMAND, json.dumps(["--help"]), *HEAVY)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["plan", "--help"], 0),
        (["run", "--ouput", "x"], 2),
        (["run", "--input", "x"], 2),
        (["serve", "--help"], 0),
    ],
)
def test_first_words_import_nothing_that_computes(arguments: list[str], code: int) -> None:
    python(COMMAND.replace("code == 0", f"code == {code}"), json.dumps(arguments), *HEAVY)


def test_a_run_says_its_first_words_before_it_imports_what_computes() -> None:
    """What is imported at the top of a command, and of the screen, is what its first line waits for."""
    python(f"import sys, pipeline.commands.runs, pipeline.console\nassert not sys.modules.keys() & {{*{HEAVY}}}")


def test_status_loads_no_engine(dataset: Path) -> None:
    python(COMMAND, json.dumps(["status", str(dataset)]), "tokenizers", "pandas")


def test_plan_with_the_real_tokenizer_loads_no_engine(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(10))
    write_parquet(tmp_path / "in/b.parquet", texts(10))
    python(COMMAND, json.dumps(["plan", "--input", str(tmp_path / "in")]))
