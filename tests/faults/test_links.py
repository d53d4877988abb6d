"""Links, FIFOs and the like in an output: nothing outside is read, written or deleted, and nothing is waited for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.dataset.store import Store
from tests.dataset.test_ours import tree
from tests.support import HASHING, read_dataset, texts, write_jsonl
from tests.support.crash import hashing_run
from tests.support.many import Call, run_all

HANGS_AFTER_S = 120
STRANGER = "part-x-0000000000-0123456789abcdef.parquet"
FINGERPRINT = "0123456789abcdef"

Plant = Callable[[Path], object]  # puts something at a path


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A dataset, its corpus, and a folder elsewhere with files that are named like a run's own."""

    source: Path
    dataset: Path
    outside: Path

    def planted(self, output: Path, name: str, plant: Plant) -> Path:
        """Copy the dataset and put something in the place of one of its files or folders."""
        shutil.copytree(self.dataset, output, symlinks=True)
        path = output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        plant(path)
        return output


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    folder = tmp_path_factory.mktemp("links")
    source = write_jsonl(folder / "in/a.jsonl", [*texts(20), {"id": "bad", "text": " "}])
    hashing_run(source, folder / "out")
    part = next(iter(Store(root=folder / "out").part_sizes()))
    for name in (".", "data", "rejects", "ready", FINGERPRINT):
        (folder / "outside" / name).mkdir(parents=True, exist_ok=True)
        for precious in (STRANGER, f".{STRANGER}.7.tmp", "manifest.jsonl", "README.md", "precious.txt"):
            (folder / "outside" / name / precious).write_bytes(f"precious {name}\n".encode())
    shutil.copy(folder / "out/data" / part, folder / "outside/data" / part)
    shutil.copy(folder / "out/manifest.jsonl", folder / "outside/copy.jsonl")
    return Trial(source=source, dataset=folder / "out", outside=folder / "outside")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def sock(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket is short
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def in_a_line(done: subprocess.CompletedProcess[str], *codes: int) -> str:
    """Return what a command said, which ended with one of these codes."""
    assert done.returncode in codes, (done.args, done.returncode, done.stdout, done.stderr)
    assert "unexpected" not in done.stderr, done.args
    return done.stdout + done.stderr


def writers(trial: Trial, output: Path) -> list[tuple[str | Path, ...]]:
    run = ("run", "--input", trial.source, "--output", output, *HASHING)
    return [run, (*run, "--rebuild", "--prune", "--set", "model.max_tokens=99"), ("plan", *run[1:])]


FOLDERS = ["data", "rejects", ".next", ".trash", ".attempts", ".trash/data", ".trash/rejects"]
FOLDERS += [f".next/{FINGERPRINT}{below}" for below in ("", "/data", "/rejects", "/ready")]


def test_a_folder_that_is_a_link_is_refused_by_name_before_anything_is_written(trial: Trial, tmp_path: Path) -> None:
    before, refused, damaged = tree(trial.outside), [], []
    outputs = {name: trial.planted(tmp_path / str(n), name, _link(trial.outside)) for n, name in enumerate(FOLDERS)}
    for name, output in outputs.items():
        changing = [*writers(trial, output), ("verify", output, "--repair")]
        changing.append(("slice", trial.dataset, "--dim", "8", "--allow-untrained-dim", output))
        refused += [(name, Call(arguments)) for arguments in changing]
        damaged += [(name, Call((reader, output))) for reader in ("status", "verify", "rejects")]
    states = {name: tree(output) for name, output in outputs.items()}
    done = run_all([call for _, call in (*refused, *damaged)], timeout_s=HANGS_AFTER_S)
    for (name, call), each in zip((*refused, *damaged), done, strict=True):
        said = in_a_line(each, 2 if (name, call) in refused else 6)
        assert f"expected {name} to be a folder of its own, found a link" in said, (call.arguments, said)
        assert len(each.stderr.splitlines()) == 1
    assert tree(trial.outside) == before
    assert {name: tree(output) for name, output in outputs.items()} == states


def _link(to: Path) -> Plant:
    return lambda path: path.symlink_to(to)


def test_a_lock_or_a_manifest_that_is_no_file_is_named_at_once(trial: Trial, tmp_path: Path) -> None:
    before = tree(trial.outside)
    odd: dict[str, Plant] = {"a FIFO": fifo, "a socket": sock, "a folder": Path.mkdir}
    odd["a link"] = lambda path: path.symlink_to(trial.outside / "copy.jsonl")
    calls = []
    for name in (".lock", "manifest.jsonl"):
        for kind, plant in odd.items():
            output = trial.planted(tmp_path / f"{name} {kind}", name, plant)
            changing = [*writers(trial, output), ("verify", output, "--repair")]
            for arguments in [*changing, ("status", output), ("verify", output)]:
                is_refused = name == ".lock" and arguments in changing
                calls.append((name, kind, Call(arguments), 2 if is_refused else 6))
    done = run_all([call for _, _, call, _ in calls], timeout_s=HANGS_AFTER_S)
    for (name, kind, call, code), each in zip(calls, done, strict=True):
        said = in_a_line(each, code)
        assert kind in said, (call.arguments, said)
        assert name in said, (call.arguments, said)
        assert len(each.stderr.splitlines()) == 1
    assert tree(trial.outside) == before


@pytest.mark.parametrize("folder", ["data", "rejects"])
def test_a_part_or_its_rejects_that_is_no_file_is_damage_and_is_made_again(
    trial: Trial, tmp_path: Path, folder: str
) -> None:
    before = tree(trial.outside)
    part = next(iter(Store(root=trial.dataset).part_sizes()))
    plants: dict[str, Plant] = {"a FIFO": fifo, "a socket": sock}
    plants["a link"] = lambda path: path.symlink_to(trial.outside / "data" / part)  # to an equal file
    plants["a link to nothing"] = lambda path: path.symlink_to(trial.outside / "nothing")
    steps: list[tuple[tuple[str | Path, ...], int]] = []  # command lines and their exit codes
    outputs = []
    for kind, plant in plants.items():
        for with_repair in (False, True):
            output = trial.planted(tmp_path / f"{kind} {with_repair}", f"{folder}/{part}", plant)
            outputs.append(output)
            steps.append((("verify", output), 6))
            steps += [(("verify", output, "--repair"), 3)] if with_repair else []
            steps += [(writers(trial, output)[0], 0), (("verify", output), 0)]
    done = run_all([Call(arguments) for arguments, _ in steps], timeout_s=HANGS_AFTER_S)
    for (_, code), each in zip(steps, done, strict=True):
        said = in_a_line(each, code)
        assert code != 6 or f"{folder}/{part}: " in said
    assert all(read_dataset(output).equals(read_dataset(trial.dataset)) for output in outputs)
    assert tree(trial.outside) == before


def test_what_is_named_like_a_part_and_is_none_is_an_orphan(trial: Trial, tmp_path: Path) -> None:
    before = tree(trial.outside)
    plants: dict[str, Plant] = {"a FIFO": fifo, "a socket": sock, "a folder": Path.mkdir}
    plants["a link"] = lambda path: path.symlink_to(trial.outside / STRANGER)
    steps: list[tuple[tuple[str | Path, ...], int]] = []
    outputs = [
        trial.planted(tmp_path / f"{folder} {kind}", f"{folder}/{STRANGER}", plant)
        for kind, plant in plants.items()
        for folder in ("data", "rejects")
    ]
    for output in outputs:
        steps += [(("verify", output), 6), (("status", output), 0), (writers(trial, output)[0], 0)]
        steps += [(("verify", output, "--repair"), 0), (("verify", output), 0)]
    done = run_all([Call(arguments) for arguments, _ in steps], timeout_s=HANGS_AFTER_S)
    for (arguments, code), each in zip(steps, done, strict=True):
        if arguments[0] == "run" and "rejects a folder" in str(arguments):
            assert "Is a directory" in in_a_line(each, 3)  # of which a run is not the judge
            continue
        assert code != 6 or STRANGER in in_a_line(each, code)
        in_a_line(each, code)
    assert tree(trial.outside) == before


def test_a_card_and_an_attempt_that_are_no_files_keep_nobody_waiting(trial: Trial, tmp_path: Path) -> None:
    before = tree(trial.outside)
    plants: dict[str, Plant] = {"a FIFO": fifo, "a socket": sock, "a folder": Path.mkdir}
    plants["a link"] = _link(trial.outside / "README.md")
    plants["a link to nothing"] = _link(trial.outside / "nothing")
    outputs = {}
    for kind, plant in plants.items():
        output = outputs[kind] = trial.planted(tmp_path / kind, "README.md", plant)
        (output / ".attempts").mkdir(exist_ok=True)
        plant(output / f".attempts/{FINGERPRINT}.json")
        (output / "manifest.jsonl").unlink()
    done = run_all([Call(writers(trial, output)[0]) for output in outputs.values()], timeout_s=HANGS_AFTER_S)
    for each in done:
        assert "README.md: left as it is" in in_a_line(each, 0)
    assert tree(trial.outside) == before


def test_an_output_that_is_reached_by_a_link_is_as_good_as_any(trial: Trial, tmp_path: Path) -> None:
    shutil.copytree(trial.dataset, tmp_path / "big/out")
    (tmp_path / "big/new").mkdir()
    for name in ("out", "new", "slice"):
        (tmp_path / name).symlink_to(tmp_path / "big" / name)
    (tmp_path / "big/slice").mkdir()
    out, new = tmp_path / "out", tmp_path / "new"
    more = write_jsonl(tmp_path / "in/a.jsonl", texts(25))
    run = ("run", "--input", more, "--prune", *HASHING, "--output")
    narrow = ("slice", out, "--dim", "8", "--allow-untrained-dim", tmp_path / "slice")
    calls = [(*run, new), ("verify", new), (*run, out), ("verify", out, "--repair"), narrow]
    calls += [("verify", tmp_path / "slice"), ("status", out), ("rejects", out)]
    for each in run_all([Call(call) for call in calls], timeout_s=HANGS_AFTER_S):
        in_a_line(each, 0)
    assert read_dataset(out).equals(read_dataset(new))
    assert out.is_symlink()
    assert new.is_symlink()
