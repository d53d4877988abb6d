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
PAGES = {path.name: path.read_text() for path in (REPOSITORY / "docs").glob("*.md")}
CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def blocks(language: str, page: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def shell_lines(page: str) -> list[str]:
    """Return the commands of all shell blocks of a page, comments left out."""
    lines = [line.split("  #")[0].strip() for block in blocks("sh", page) for line in block.splitlines()]
    return [command for line in lines if line for command in line.split(" && ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sample, and a config that needs no model."""
    folder = tmp_path_factory.mktemp("readme")
    build_sample(folder / "sample")
    local = (REPOSITORY / "configs/local.toml").read_text()
    (folder / "hashing.toml").write_text(local.replace('kind = "vllm"', 'kind = "hashing"'))
    return folder


def test_the_commands_of_the_readme_and_of_runs_run_as_they_stand(folder: Path) -> None:
    pages = (README, PAGES["runs.md"])
    commands = [shlex.split(line) for page in pages for line in shell_lines(page) if line.startswith("embed-corpus")]
    assert [command[1] for command in commands] == [
        *("plan", "run", "verify", "search", "run"),
        *("plan", "status", "rejects", "compact", "slice"),
    ]
    env = {**ENVIRONMENT, "EMBED_CONFIG": "hashing.toml"}
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *command[1:]], cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, (command, done.stderr)
    for block in blocks("python", README):
        done = subprocess.run([sys.executable, "-c", block], cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, (block, done.stderr)
        assert "xml.dom.expatbuilder" in done.stdout or "7594 (7594, 384)" in done.stdout or "n_tokens" in done.stdout


def test_the_serve_command_has_the_flags_that_there_are(tmp_path: Path) -> None:
    [line] = [line for line in shell_lines(PAGES["http.md"]) if " serve " in line]
    (tmp_path / "key").write_text("a-key-of-some-length")
    command = [sys.executable, "-m", "pipeline", *shlex.split(line)[1:], "--set", "engine.kind=hashing"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert "expected engine.kind vllm, found hashing" in done.stderr


def test_the_modal_commands_of_the_readme_are_those_of_its_page() -> None:
    short = [line for line in shell_lines(README) if line.startswith("modal")]
    assert len(short) == 6
    assert set(short) <= set(shell_lines(PAGES["modal.md"]))


@needs_plane
def test_the_modal_commands_run_as_they_stand(tmp_path: Path) -> None:
    with house(tmp_path, seeded=False) as home:
        # The model's place is taken by one that is here, and its engine by one that needs no model.
        local = (REPOSITORY / "configs/local.toml").read_text()
        config = local.replace('kind = "vllm"', 'kind = "hashing"').replace("dims = [384]", "dims = [1024]")
        (home.folder / "configs/readme.toml").write_text(config)
        shorten_preflight(home)
        write_jsonl(home.folder / "wiki/a.jsonl", texts(50))
        found = [line for page in ("modal.md", "http.md") for line in shell_lines(PAGES[page])]
        lines = [line for line in found if line.startswith(("modal ", "mkdir")) or "vectors/" in line]
        assert len(lines) == 14
        (home.folder / "key.env").write_text("VLLM_API_KEY=a-key\n")
        for line in lines:
            program, *arguments = shlex.split(line)
            if program == "mkdir":
                (home.folder / arguments[0]).mkdir()
                continue
            module = "modal" if program == "modal" else "pipeline"
            env = {"EMBED_CONFIG": "configs/readme.toml"}
            done = home.plane.python("-m", module, *arguments, cwd=home.folder, env=env)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert sorted(ids(home.folder / "vectors/wiki")) == sorted(row["id"] for row in texts(50))
        [script] = [block for block in blocks("python", PAGES["modal.md"]) if "from_name" in block]
        asked = home.plane.python("-c", f"{script}\nprint(len(vectors[0]))", cwd=tmp_path)
        assert asked.stdout == "1024\n", asked.stderr


def test_hugging_face_datasets_opens_an_output(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "one"}\n{"text": "two"}\n')
    done = embed_corpus("run", "--input", source, "--output", tmp_path / "out", "--set", "engine.kind=hashing")
    assert done.returncode == 0, done.stderr
    [block] = blocks("python", PAGES["dataset.md"])
    shown = subprocess.run(
        [sys.executable, "-c", f"{block}\nprint(len(vectors), len(vectors[0]['embedding']))"],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert shown.stdout == "2 384\n", shown.stderr


def test_the_targets_that_are_named_are_in_the_makefile() -> None:
    targets = {name for page in (README, *PAGES.values()) for name in re.findall(r"(?:^|`)make ([a-z-]+)", page, re.M)}
    assert {"embed", "test", "check"} <= targets
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", ["README.md", *sorted(f"docs/{name}" for name in PAGES)])
def test_the_files_that_a_page_names_exist(name: str) -> None:
    page = (REPOSITORY / name).read_text()
    named = re.findall(r"(?<![\w/.])(?:pipeline|configs|tests|jobs|docs)/[\w./-]*\w", page)
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
    linked = [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link]
    for link in linked:
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / name).parent / path
        assert target.exists(), link
        headings = [line.lstrip("# ").lower().replace(" ", "-") for line in target.read_text().splitlines()]
        assert not anchor or anchor in headings, link


def test_a_stranger_reads_the_readme_to_its_end_and_finds_every_page() -> None:
    assert README.count("\n") <= 130
    assert all(f"(docs/{name})" in README or f"(docs/{name}#" in README for name in PAGES)


def test_the_endings_of_the_readme_are_those_that_are_read() -> None:
    from pipeline.corpus import READERS

    named = set(re.findall(r"`(\.\w+)`", README))
    assert {f".{ending.split('.')[1]}" for ending in READERS} <= named


def test_every_exit_code_and_reject_reason_is_explained() -> None:
    page = PAGES["runs.md"]
    assert [int(code) for code in re.findall(r"^\| (\d) \|", page, re.MULTILINE)] == list(range(8))
    assert all(f"`{reason}`" in page for reason in REASONS)


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
