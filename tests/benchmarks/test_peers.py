"""The peers: what each file of one has, and what is reckoned of what they wrote. None of them is run here."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.benchmarks.peers import tally
from tests.benchmarks.peers.__main__ import figure, is_whole, label, record
from tests.benchmarks.peers.catalogue import PEERS, Peer
from tests.benchmarks.peers.outputs import least_cosine, lost_and_doubled, read
from tests.benchmarks.peers.trial import environment, processes_with, read_tally
from tests.benchmarks.peers.venvs import REQUIREMENTS, last_line

FOLDER = Path(tally.__file__).parent
KILL = {"texts_embedded_in_total": 15, "rows_lost": 0, "rows_doubled": 0, "how_it_was_restarted": "", "error": None}


@pytest.mark.parametrize("module", [*sorted(path.stem for path in FOLDER.glob("of_*.py")), "ours"])
def test_a_peer_is_a_function_that_needs_nothing_of_its_own_until_it_is_called(module: str) -> None:
    taken = list(inspect.signature(import_module(f"tests.benchmarks.peers.{module}").embed).parameters)
    assert taken[:4] == ["source", "output", "model", "dtype"]
    assert module in {peer.module for peer in PEERS}


def test_every_peer_has_a_name_of_its_own_and_pinned_requirements() -> None:
    assert len({label(peer) for peer in PEERS}) == len(PEERS)
    assert {peer.venv for peer in PEERS} - {""} == {path.stem for path in REQUIREMENTS.glob("*.txt")}
    for path in REQUIREMENTS.glob("*.txt"):
        assert all("==" in line for line in path.read_text().splitlines()), path


def test_a_tally_outlasts_the_process_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "tally"
    code = "import os, signal; from tests.benchmarks.peers.tally import *; embedded(0); embedded(3); embedded(4); "
    subprocess.run([sys.executable, "-c", code + "os.kill(os.getpid(), signal.SIGKILL)"], env=environment(path))
    loaded, texts = read_tally(path)
    assert loaded > 0
    assert texts == 7


def test_what_is_killed_are_the_processes_of_one_trial(tmp_path: Path) -> None:
    sleeping = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    tallies = [tmp_path / "tally", tmp_path / "another"]
    processes = [subprocess.Popen(sleeping, env=environment(path), stdout=subprocess.PIPE) for path in tallies]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        assert [list(processes_with(path, -1)) for path in tallies] == [[each.pid] for each in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_process_of_the_session_is_killed_even_without_its_environment(tmp_path: Path) -> None:
    sleeping = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(sleeping, env={}, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = list(processes_with(tmp_path / "tally", process.pid))
        process.kill()
    assert found == [process.pid]


def test_outputs_are_read_whatever_they_are(tmp_path: Path) -> None:
    for name in "parquet", "answers":
        (tmp_path / name).mkdir()
    vectors = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
    ids = ["a", "b", "b"]
    pq.write_table(pa.table({"id": ids, "embedding": vectors}), tmp_path / "parquet/one.parquet")
    (tmp_path / "parquet/cut.parquet").write_bytes(b"PAR1")
    lines: list[dict[str, Any]] = [
        {"custom_id": key, "response": {"status_code": 200, "body": {"data": [{"embedding": vector}]}}}
        for key, vector in zip(ids, vectors, strict=True)
    ]
    lines.append({"custom_id": "d", "response": None})
    (tmp_path / "answers/vectors.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in "parquet", "answers":
        written, found = read(tmp_path / name)
        assert written == ids
        np.testing.assert_allclose(found["a"], [1, 0])
        assert lost_and_doubled(["a", "b", "c", "d"], written) == (2, 1)


def test_the_least_cosine_is_that_of_rows_that_both_have() -> None:
    ours = {key: np.array(vector, np.float32) for key, vector in {"a": [1, 0], "b": [0, 2], "c": [1, 1]}.items()}
    theirs = {key: np.array(vector, np.float32) for key, vector in {"a": [3, 0], "b": [1, 1], "d": [1, 1]}.items()}
    assert least_cosine(ours, theirs) == pytest.approx(2**-0.5)
    assert least_cosine(ours, {}) is None


def test_a_peer_that_cannot_run_is_in_the_table_with_its_error() -> None:
    peer = Peer(name="p", module="ours", engine="e", precision="float32")
    found = record(peer, [{"error": "no such wheel"}], None, None)
    assert figure(found, 10).detail == "did not run: no such wheel"
    assert not is_whole(found)


def test_a_peer_that_ran_is_in_the_table_with_its_rate_and_what_a_kill_cost() -> None:
    peer = Peer(name="p", module="ours", engine="e", precision="float32", package="numpy")
    runs = [{"error": None, "wall_s": wall_s, "cpu_s": 3.0, "texts_per_s": 10 / wall_s} for wall_s in (1.0, 2.0, 5.0)]
    found = record(peer, runs, KILL, 0.99999)
    line = figure(found, 10)
    assert (line.value, line.least, line.most) == (5.0, 2.0, 10.0)
    assert "1.50 x the texts embedded; 0 rows lost, 0 doubled; least cosine to ours 1.0000" in line.detail
    assert is_whole(found)
    assert not is_whole({**found, "kill": {**KILL, "rows_doubled": 1}})


def test_the_last_line_with_words_says_what_went_wrong() -> None:
    assert last_line("Traceback\nImportError: no x\n\n") == "ImportError: no x"
    assert last_line("") == "no output"
