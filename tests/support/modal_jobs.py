"""What the tests of jobs/ need: the repository as a user deploys it, with a corpus on the volume of a control plane."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.modal_loopback import Loopback, Settings
from tests.modal_loopback.knobs import Rule
from tests.support import REPOSITORY, embed_corpus, ids, texts, write_jsonl, write_parquet
from tests.support.plane import needs_plane as needs_plane
from tests.support.sabotage import fake_engine

CLASS = "VLLMEmbeddingSnapshot"
HASHING_TOML = REPOSITORY / "configs/hashing.toml"
ENGINES_PY = REPOSITORY / "pipeline/engines/__init__.py"
ROWS = texts(3000)

# What each call of the engine prints, so that a test can count the texts that were paid for.
PRINT = 'print(f"ENGINE {n_texts}", flush=True)\n'
CRON_APP = "embedding-reembed"
CRON = """
enabled = {enabled}
schedule = "30 2 * * *"
timezone = "Europe/Berlin"
"""
DATASET = """
[[datasets]]
input = "{input}"
output = "{output}"
dim = 64
config = "configs/hashing.toml"
"""


class House:
    """A copy of the repository, whose configs a test may change, on a plane of its own."""

    def __init__(self, folder: Path, plane: Loopback) -> None:
        self.folder = folder
        self.plane = plane

    def modal(self, *arguments: str, config: str = "configs/hashing.toml") -> subprocess.CompletedProcess[str]:
        return self.plane.modal(*arguments, cwd=self.folder, timeout_s=7200, env={"EMBED_CONFIG": config})

    def run(self, *arguments: str, code: int = 0, **options: str) -> str:
        """Run the job; return what it printed."""
        done = self.modal("run", "jobs/embed_corpus.py", *arguments, **options)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def engine(self, delay_s: float, code: str = "") -> None:
        """Let each call of the hashing engine take that long from now on, run `code` and print what it embeds."""
        sleep = f"time.sleep({delay_s} * (len(token_ids) > 1))\n"
        room = self.folder / "pipeline/engines"
        (room / "fake.py").write_text(fake_engine(f"{sleep}{textwrap.dedent(code)}\n{PRINT}"))
        (room / "__init__.py").write_text(ENGINES_PY.read_text() + "\nimport pipeline.engines.fake\n")

    def dataset(self, name: str, destination: Path) -> Path:
        """Return a committed output as a folder, the way `modal volume get` would fetch it."""
        shutil.rmtree(destination, ignore_errors=True)
        for path, file in self.plane.committed("embedding-output").items():
            if path.startswith(f"{name}/"):
                target = destination / path.removeprefix(f"{name}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        return destination

    def check_complete(self, name: str, destination: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Expect a sound dataset with every row once."""
        output = self.dataset(name, destination)
        verified = embed_corpus("verify", output)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert sorted(ids(output)) == sorted(row["id"] for row in rows)


def replace_in(home: House, file: str, old: str, new: str) -> None:
    """Change a text of the house's sources that has to be there."""
    path = home.folder / file
    text = path.read_text()
    assert old in text, f"{file} no longer says {old!r}"
    path.write_text(text.replace(old, new))


def shorten_preflight(home: House) -> None:
    """Let a preflight have fewer files to write, and fewer starts to wait for."""
    replace_in(home, "jobs/checks/files.py", "N_FILES = (10, 1_000, 10_000)", "N_FILES = (10, 100)")
    replace_in(home, "jobs/checks/snapshot.py", '{"with": 5, "without": 2}', '{"with": 2, "without": 1}')


@contextmanager
def house(
    tmp_path: Path,
    *,
    faults: Sequence[Rule] = (),
    chunk_tokens: int = 65536,
    delay_s: float | None = None,
    modal: str = "",
    seeded: bool = True,
    **settings: Any,
) -> Iterator[House]:
    """Yield a house whose corpus volume holds `books/`, 3,000 rows in three kinds of file.

    With `delay_s` each engine call takes that long and prints what it embeds.
    """
    folder = tmp_path / "house"
    for name in ("pipeline", "jobs", "configs"):
        shutil.copytree(REPOSITORY / name, folder / name)
    config = folder / "configs/hashing.toml"
    text = HASHING_TOML.read_text()
    assert "chunk_tokens = 65536" in text
    text = text.replace("chunk_tokens = 65536", f"chunk_tokens = {chunk_tokens}")
    config.write_text(f"{text}\n[modal]\n{modal}\n")
    (tmp_path / "plane").mkdir()
    with Loopback(
        tmp_path / "plane", faults=faults, settings=Settings(**{"scaledown_factor": 0.1} | settings)
    ) as plane:
        if seeded:
            plane.seed("embedding-corpus", write_books(tmp_path / "corpus"))
        home = House(folder, plane)
        if delay_s is not None:
            home.engine(delay_s)
        yield home
        assert plane.seen.unimplemented == []
        # Of the others some are of containers that died while they were answered.
        assert [error for error in plane.seen.errors if "nonpreemptible" in error] == []


def write_books(folder: Path) -> Path:
    write_parquet(folder / "books/a.parquet", ROWS[:1000], row_group_size=300)
    write_jsonl(folder / "books/sub/b.jsonl", ROWS[1000:2000])
    write_jsonl(folder / "books/c.jsonl.gz", ROWS[2000:])
    return folder


def embedded(printed: str) -> int:
    """Return how many texts of a corpus the engines of a run printed that they embed."""
    return sum(map(int, re.findall(r"^ENGINE (\d+)$", printed, re.MULTILINE)))


def deploy_cron(home: House, *datasets: tuple[str, str], enabled: str = "true", more: str = "") -> None:
    """Deploy the cron with datasets, each an input and an output."""
    cron = CRON.format(enabled=enabled)
    cron += "".join(DATASET.format(input=source, output=output) + more for source, output in datasets)
    (home.folder / "configs/cron.toml").write_text(cron)
    done = home.modal("deploy", "jobs/reembed.py")
    assert done.returncode == 0, done.stdout + done.stderr


def tick(home: House) -> tuple[str, str]:
    """Run the cron once; return how it ended, and what it raised."""
    return home.plane.wait(home.plane.tick(CRON_APP, "reembed"))
