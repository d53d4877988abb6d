"""The documents say what is so: README's commands run, its files exist, and every config key is explained."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from pipeline.config import Config
from pipeline.schema import REASONS
from scripts.sample_corpus import build_sample
from tests.support import REPOSITORY, embed_corpus, ids, texts, write_jsonl
from tests.support.modal_jobs import house, needs_plane, shorten_preflight

README = (REPOSITORY / "README.md").read_text()
CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def shell_lines() -> list[str]:
    """Return the commands of all shell blocks, comments left out."""
    return [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_the_commands_of_the_readme_run_as_they_stand(tmp_path: Path) -> None:
    build_sample(tmp_path / "sample")
    config = tmp_path / "hashing.toml"
    local = (REPOSITORY / "configs/local.toml").read_text()
    config.write_text(local.replace('kind = "vllm"', 'kind = "hashing"'))
    lines = [line for line in shell_lines() if line.startswith(".venv/bin/embed-corpus") and "vectors/" not in line]
    commands = [shlex.split(line) for line in lines if " serve " not in line]  # which does not end by itself
    assert [command[1] for command in commands] == [
        *("plan", "run", "status", "verify", "search", "rejects", "compact"),
        *("run", "slice"),
    ]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command[1:]],
            cwd=tmp_path,
            env={**os.environ, "EMBED_CONFIG": str(config), "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (command, done.stderr)


def test_the_serve_command_of_the_readme_has_the_flags_that_there_are(tmp_path: Path) -> None:
    [line] = [line for line in shell_lines() if " serve " in line]
    (tmp_path / "key").write_text("a-key-of-some-length")
    command = [sys.executable, "-m", "pipeline", *shlex.split(line)[1:], "--set", "engine.kind=hashing"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert "expected engine.kind vllm, found hashing" in done.stderr


@needs_plane
def test_the_modal_commands_of_the_readme_run_as_they_stand(tmp_path: Path) -> None:
    with house(tmp_path, seeded=False) as home:
        # The model's place is taken by one that is here, and its engine by one that needs no model.
        local = (REPOSITORY / "configs/local.toml").read_text()
        config = local.replace('kind = "vllm"', 'kind = "hashing"').replace("dims = [384]", "dims = [1024]")
        (home.folder / "configs/readme.toml").write_text(config)
        shorten_preflight(home)
        write_jsonl(home.folder / "wiki/a.jsonl", texts(50))
        lines = [line for line in shell_lines() if line.startswith((".venv/bin/modal", "mkdir")) or "vectors/" in line]
        assert len(lines) == 14
        (home.folder / "key.env").write_text("VLLM_API_KEY=a-key\n")
        for line in lines:
            program, *arguments = shlex.split(line)
            if program == "mkdir":
                (home.folder / arguments[0]).mkdir()
                continue
            module = "modal" if program.endswith("modal") else "pipeline"
            env = {"EMBED_CONFIG": "configs/readme.toml"}
            done = home.plane.python("-m", module, *arguments, cwd=home.folder, env=env)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert sorted(ids(home.folder / "vectors/wiki")) == sorted(row["id"] for row in texts(50))
        [script] = [block for block in blocks("python") if "from_name" in block]
        asked = home.plane.python("-c", f"{script}\nprint(len(vectors[0]))", cwd=tmp_path)
        assert asked.stdout == "1024\n", asked.stderr


def test_the_python_of_the_readme_opens_an_output(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "one"}\n{"text": "two"}\n')
    done = embed_corpus("run", "--input", source, "--output", tmp_path / "out", "--set", "engine.kind=hashing")
    assert done.returncode == 0, done.stderr
    for number, block in enumerate(block for block in blocks("python") if "datasets" in block):
        shown = subprocess.run(
            [sys.executable, "-c", f"{block}\nprint(len(vectors), len(vectors[0]['embedding']))"],
            cwd=tmp_path,
            env={**os.environ, "HF_HOME": str(tmp_path / f"home-{number}"), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert shown.stdout == "2 384\n", shown.stderr


def test_the_targets_of_the_readme_are_in_the_makefile() -> None:
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"embed", "test", "check"} <= targets
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_the_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"(?:pipeline|configs|tests|jobs)/[\w./]*", README)
    assert len(named) > 8
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_the_readme_has_every_exit_code_and_reject_reason() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)] == list(range(8))
    assert all(f"`{reason}`" in README for reason in REASONS)


def keys_with_comments(text: str) -> set[str]:
    """Return the keys of a config beside or above which a comment stands."""
    table, above, found = "", False, set()
    for line in text.splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            table = header[1]
        elif (key := re.match(r"(\w+) = ", line)) and (above or "#" in line):
            found.add(f"{table}.{key[1]}")
        above = line.startswith("#")
    return found


def fields(record: Any) -> dict[str, set[str]]:
    return {
        name: {field.name for field in dataclasses.fields(kind)}
        for name, kind in get_type_hints(record).items()
        if dataclasses.is_dataclass(kind)
    }


def test_the_configs_explain_every_key_there_is() -> None:
    known = {f"{table}.{key}" for table, keys in fields(Config).items() for key in keys}
    explained = {key for path in CONFIGS for key in keys_with_comments(path.read_text())}
    assert known - {"model.name", "model.licence"} <= explained  # whose names say it all


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_has_a_comment_for_every_number_with_a_unit(path: Path) -> None:
    tables = tomllib.loads(path.read_text())
    numbers = {
        f"{table}.{key}"
        for table, values in tables.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers <= keys_with_comments(path.read_text())
