"""Who may import what: Modal only at the edge, engines only where one is made."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.dataset.manifest import Dataset, Run
from pipeline.dataset.store import Store
from pipeline.recipe import recipe
from tests.support import REPOSITORY, local_config, texts, write_jsonl, write_parquet

ENGINES = ("vllm", "torch", "sentence_transformers", "transformers")
SOURCES = sorted((REPOSITORY / "pipeline").rglob("*.py"))

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
loaded = [name for name in {("modal", *ENGINES)} if name in sys.modules]
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
    python(COMMAND, json.dumps(["--help"]))


def test_status_loads_no_engine(dataset: Path) -> None:
    python(COMMAND, json.dumps(["status", str(dataset)]))


def test_plan_with_the_real_tokenizer_loads_no_engine(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(10))
    write_parquet(tmp_path / "in/b.parquet", texts(10))
    python(COMMAND, json.dumps(["plan", "--input", str(tmp_path / "in")]))
