"""A model by its name in both engines: their vectors are those that sentence-transformers makes by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.support import REPOSITORY, embed_corpus, texts, write_jsonl
from tests.support.architectures import KINDS

QUICK = ("--set", "engine.kv_cache_bytes=67108864", "--set", "model.dtype=float32")
OTHER = ("--set", "engine.kind=sentence-transformers")


@pytest.mark.slow  # vLLM loads six models
@pytest.mark.parametrize("name", KINDS)
def test_a_named_model_passes_the_golden_check_in_both_engines(tmp_path: Path, name: str) -> None:
    check(tmp_path, name, (), OTHER)


def test_a_named_model_passes_the_golden_check_and_is_searched(tmp_path: Path) -> None:
    check(tmp_path, "bge", OTHER, ("--set", "engine.kind=numpy"))


def check(tmp_path: Path, name: str, engine: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Embed with one engine and search with another; both are held against reference vectors, and these count."""
    command = [sys.executable, "-m", "tests.support.architectures", str(tmp_path), name]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    source, golden = write_jsonl(tmp_path / "in.jsonl", texts(6)), tmp_path / "golden.json"
    asked = ("--model", tmp_path / name, "--set", f"model.golden={golden}", *QUICK)
    made = embed_corpus("golden", *asked)
    assert made.returncode == 0, made.stderr
    done = embed_corpus("run", "--input", source, "--output", tmp_path / "out", *asked, *engine)
    assert done.returncode == 0, done.stderr
    assert "no reference vectors" not in done.stderr
    assert f"--model {tmp_path / name}" in done.stdout
    query = texts(6)[3]["text"]
    search = partial(embed_corpus, "search", tmp_path / "out", query, "-k", "6", "--json", *asked, *other)
    found = search()
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)) == 6
    # With other vectors in their place it fails: the check has looked.
    table = json.loads(golden.read_text())
    golden.write_text(json.dumps(table | {"vectors": [vector[::-1] for vector in table["vectors"]]}))
    wrong = search()
    assert wrong.returncode == 1
    assert "golden.json: expected a cosine of at least 0.9999" in wrong.stderr
