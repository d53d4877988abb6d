"""The sample corpus: every docstring of the running Python's standard library, in the three forms that people bring."""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import sys
import sysconfig
import warnings
import zlib
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Literal, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

# Not the library itself: its tests, its bundled applications and what was installed beside it.
SKIPPED = {
    "test",
    "tests",
    "idle_test",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "site-packages",
    "dist-packages",
}
CLASSES, FUNCTIONS, MODULES = "classes.parquet", "functions.jsonl.gz", "modules.parquet"

Kind = Literal["module", "class", "function"]


class Docstring(TypedDict):
    """One row of the corpus; `id` is the dotted name."""

    id: str
    text: str
    kind: Kind


def build_sample(folder: Path) -> bool:
    """Write the corpus into `folder`; return False when the one there is current and nothing was written.

    The same Python gives the same bytes. Sources are parsed, never imported: some modules act when they are imported.
    """
    recipe = f"{sys.version} {zlib.crc32(Path(__file__).read_bytes())}".encode()
    if _is_current(folder, recipe):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[Kind, list[Docstring]] = {"module": [], "class": [], "function": []}
    for row in sorted(_standard_library(), key=itemgetter("id")):
        rows[row["kind"]].append(row)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows["function"])
    classes = pa.Table.from_pylist(rows["class"])
    # large_string and a dictionary are what polars and pandas write. This file goes last: it tells that all is there.
    types = [("id", pa.string()), ("text", pa.large_string()), ("kind", pa.dictionary(pa.int8(), pa.string()))]
    modules = pa.Table.from_pylist(rows["module"], pa.schema(types, metadata={"recipe": recipe}))

    (folder / FUNCTIONS).write_bytes(gzip.compress(lines.encode(), mtime=0))
    pq.write_table(classes, folder / CLASSES, row_group_size=500)
    unfinished = folder / f".{MODULES}.tmp"
    pq.write_table(modules, unfinished)
    unfinished.replace(folder / MODULES)
    return True


def _is_current(folder: Path, recipe: bytes) -> bool:
    if not all((folder / name).is_file() for name in (CLASSES, FUNCTIONS, MODULES)):
        return False
    return (pq.read_schema(folder / MODULES).metadata or {}).get(b"recipe") == recipe


def _standard_library() -> Iterator[Docstring]:
    """Yield the docstrings; of a name that is defined twice, the first that has one."""
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not SKIPPED.isdisjoint(parts) or not all(part.isidentifier() for part in parts):
            continue
        for row in docstrings(path, ".".join(parts).removesuffix(".__init__")):
            if row["id"] not in seen:
                seen.add(row["id"])
                yield row


def docstrings(path: Path, module: str) -> Iterator[Docstring]:
    """Yield the docstrings of one source file, without importing it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes that a later Python will refuse are the library's affair
        tree = ast.parse(path.read_bytes())
    for name, node in [(module, tree), *_definitions(tree, f"{module}.")]:
        text = ast.get_docstring(node)
        if text and text.strip():
            yield Docstring(id=name, text=text, kind=_kind(node))


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, Documented]]:
    """Yield what can be reached by a dotted name: not what is local to a function."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt | ast.ExceptHandler):  # such as the branches of an `if` and a `try`
            yield from _definitions(node, prefix)


def _kind(node: Documented) -> Kind:
    if isinstance(node, ast.Module):
        return "module"
    return "class" if isinstance(node, ast.ClassDef) else "function"


def main() -> None:
    """Build the corpus in the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sample", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DEST")
    folder: Path = parser.parse_args().folder
    print(f"{folder}: the sample corpus is {'built' if build_sample(folder) else 'current'}")


if __name__ == "__main__":
    main()
