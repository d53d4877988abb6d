"""Calls from Python: the flags, answers and errors of the command line, and no import before it is needed."""

from __future__ import annotations

import inspect
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.errors import ConfigError, CorpusError, IncompleteError, RecipeError
from tests.support import HASHING as FLAGS
from tests.support import REPOSITORY, embed_corpus, status, texts, write_jsonl

HASHING = REPOSITORY / "configs/hashing.toml"
IN_WORDS = {"help", "debug", "json", "dry_run"}  # flags of a terminal; `plan` is the dry run
HEAVY = ("pyarrow", "numpy", "pandas", "msgspec", "tokenizers", "torch", "vllm")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "in.jsonl", [*texts(50), {"id": "bad", "text": None}])


@pytest.mark.parametrize("call", [pipeline.plan, pipeline.run])
def test_a_call_has_the_flags_of_its_command(call: Callable[..., Any]) -> None:
    shown = embed_corpus(call.__name__, "--help").stdout
    flags = {name.replace("-", "_") for name in re.findall(r"^ +--([a-z-]+)", shown, re.MULTILINE)}
    assert set(inspect.signature(call).parameters) == flags - IN_WORDS


def test_a_run_returns_what_status_says_and_a_plan_what_plan_says(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    planned = json.loads(embed_corpus("plan", "--input", source, "--json", *FLAGS).stdout)
    assert pipeline.plan(source, set=FLAGS[1:]) == planned
    assert not output.exists()
    found = pipeline.run(source, output, config=HASHING)
    assert found == status(output)
    assert (found["state"], found["embedded_now"], found["rejected_rows"]) == ("complete", 50, 1)
    assert pipeline.plan(source, output, config=HASHING)["chunks"] == 0
    assert pipeline.run(source, output, config=HASHING)["embedded_now"] == 0


def test_flags_do_what_they_do_on_the_command_line(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    found = pipeline.run(
        source, output, config=HASHING, set="corpus.store_text=false", dim=10, limit=5, allow_untrained_dim=True
    )
    assert (found["dim"], found["input_rows"], found["stored_texts"]) == (10, 5, 0)
    write_jsonl(source, texts(2))
    with pytest.raises(RecipeError, match=r"run\.dim is 10, asked for 384"):
        pipeline.run(source, output, config=HASHING)
    assert pipeline.run(source, output, config=HASHING, rebuild=True, prune=True)["dim"] == 384


def test_errors_are_those_of_the_house(source: Path, tmp_path: Path) -> None:
    for wrong, error in (
        ({"input": tmp_path / "nowhere"}, CorpusError),
        ({"set": ["model.dtpye=float32"]}, ConfigError),
        ({"strict": True}, IncompleteError),
    ):
        arguments: dict[str, Any] = {"input": source, "output": tmp_path / "out", "config": HASHING, **wrong}
        with pytest.raises(error) as raised:
            pipeline.run(**arguments)
        assert raised.value.exit_code in (2, 3)


class NoFile(io.StringIO):
    """A stream as a notebook has it: it is shown, and no file of the system."""


def test_notices_go_where_a_notebook_shows_them(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(source, [{**row, "kind": "a"} for row in texts(3)])
    shown = NoFile()
    monkeypatch.setattr(sys, "stderr", shown)
    pipeline.run(source, tmp_path / "out", config=HASHING)
    assert "columns left out: kind" in shown.getvalue()


def test_the_package_loads_nothing_before_it_is_used() -> None:
    script = f"""
import sys
import pipeline
assert dir(pipeline) > [] and set(pipeline.__all__) <= set(dir(pipeline))
assert not hasattr(pipeline, "nothing")
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
from pipeline import errors, open_dataset, plan, run
assert pipeline.run is run and open_dataset.__module__ == "pipeline.python.opened"
assert "torch" not in sys.modules and "vllm" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
