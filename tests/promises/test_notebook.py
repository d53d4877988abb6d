"""What the documents show in Python runs as it stands: the notebook cell by cell, and the page beside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY, texts, write_jsonl

NOTEBOOK = REPOSITORY / "docs/notebook.ipynb"
PAGE = REPOSITORY / "docs/python.md"
# Each cell in one namespace; the value of its last line is shown, as a notebook shows it.
CELLS = """
import ast, json, sys
names = {}
for number, cell in enumerate(json.load(sys.stdin)):
    body = ast.parse(cell).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), f"<cell {number}>", "exec"), names)
    if last:
        print(repr(eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"), names)))
"""


def shown_by(cells: list[str], folder: Path, **env: str) -> str:
    """Run cells one after the other in a process of their own and return what they print."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", CELLS],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(folder), **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    shown = shown_by(["".join(cell["source"]) for cell in cells], tmp_path)
    assert "('complete', 5, 5)\n0\n5 384 ['note-0'" in shown
    assert "1.0 note-4 Herons wait for fish without moving. 2024" in shown
    assert "2 CorpusError input .../nowhere: expected" in shown


def test_the_notebook_has_no_output_and_nothing_of_a_machine() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    local = (REPOSITORY / "configs/local.toml").read_text()
    (tmp_path / "config.toml").write_text(local.replace('kind = "vllm"', 'kind = "hashing"'))
    write_jsonl(tmp_path / "texts.jsonl", texts(5))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    shown = shown_by(blocks, tmp_path, EMBED_CONFIG=str(tmp_path / "config.toml")).splitlines()
    assert shown[0] == "5 (5, 384)"
    assert len(shown) == 4
