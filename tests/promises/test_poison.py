"""Rows that an engine cannot take, and engines that go wrong: the rows are named, and no others pay for them."""

from __future__ import annotations

import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support import embed_corpus, ids, status, texts, write_jsonl, write_parquet
from tests.support.sabotage import FakedCommand

ROWS = texts(300)
SMALL = ("--set", "run.chunk_tokens=1000", "--set", "engine.batch_passages=32")
POISON = {17, 18, 150, 299}


def corpus(folder: Path, bad: set[int] = POISON) -> Path:
    """Return three shards of 100 rows each, of which the bad ones hold the word POISON."""
    rows = [row | {"text": row["text"] + " POISON" * (i in bad)} for i, row in enumerate(ROWS)]
    write_parquet(folder / "a.parquet", rows[:100], row_group_size=30)
    write_jsonl(folder / "b.jsonl", rows[100:200])
    write_jsonl(folder / "c.jsonl.gz", rows[200:])
    return folder


def check_all_but(output: Path, bad: set[int], detail: str) -> None:
    """Expect every row in the dataset, except the bad ones, which are rejected with a detail."""
    verified = embed_corpus("verify", output)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert sorted(ids(output)) == sorted(f"doc-{i}" for i in range(300) if i not in bad)
    rejects = pq.read_table(output / "rejects").to_pylist() if bad else []
    assert {(reject["id"], reject["reason"]) for reject in rejects} == {(f"doc-{i}", "engine_error") for i in bad}
    assert all(detail in reject["detail"] and reject["text"].endswith("POISON") for reject in rejects)


def test_rows_on_which_the_engine_raises_are_rejected_and_all_others_embedded(tmp_path: Path) -> None:
    faked = FakedCommand(tmp_path / "faked", 'if holds("POISON"): raise ValueError("cannot digest this")')
    done = faked.run(corpus(tmp_path / "in"), tmp_path / "out", *SMALL)
    assert done.returncode == 0, done.stderr
    check_all_but(tmp_path / "out", POISON, "cannot digest this")
    found = status(tmp_path / "out")
    assert (found["embedded_now"], found["rejected_rows"]) == (296, 4)
    assert found["engine_calls"] <= 300 / 10 + len(POISON) * 2 * 5  # 32 rows are halved five times
    assert faked.run(tmp_path / "in", tmp_path / "out", *SMALL, "--strict").returncode == 3


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ('raise RuntimeError("CUDA error: device-side assert triggered")', "device-side assert"),
        pytest.param("return np.full((len(token_ids), 384), np.nan, np.float32)", "finite", marks=pytest.mark.slow),
        pytest.param("return np.ones((len(token_ids), 384), np.float32)", "expected", marks=pytest.mark.slow),
    ],
)
def test_an_engine_that_goes_wrong_stops_the_run_and_costs_no_row(tmp_path: Path, broken: str, what: str) -> None:
    faked = FakedCommand(tmp_path / "faked")
    calls = f"if open({str(faked.log)!r}).read().count(chr(10)) > 12: "
    faked.engine(calls + broken)
    done = faked.run(corpus(tmp_path / "in", set()), tmp_path / "out", *SMALL)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert what in done.stderr
    before = status(tmp_path / "out")
    assert before["state"] == "incomplete"
    assert 0 < before["embedded_rows"] < 300
    assert before["rejected_rows"] == 0
    finished = ids(tmp_path / "out")  # one part may be there whose receipt came too late for the manifest
    faked.engine("")
    assert faked.run(tmp_path / "in", tmp_path / "out", *SMALL).returncode == 0
    check_all_but(tmp_path / "out", set(), "")
    assert status(tmp_path / "out")["embedded_now"] == 300 - len(finished)


def test_an_engine_that_drifts_stops_the_run_before_a_vector_of_that_is_stored(tmp_path: Path) -> None:
    """Each text gets another vector than before, as from weights that were overwritten; all look like vectors."""
    faked = FakedCommand(tmp_path / "faked")
    drift = f"if open({str(faked.log)!r}).read().count(chr(10)) > 12: token_ids = [[7, *ids] for ids in token_ids]"
    faked.engine(drift)
    source = corpus(tmp_path / "in", set())
    done = faked.run(source, tmp_path / "out", *SMALL)
    assert done.returncode == 1
    assert "canary: expected the vector of a fixed text to stay" in done.stderr
    faked.engine("")
    assert faked.run(source, tmp_path / "out", *SMALL).returncode == 0
    assert faked.run(source, tmp_path / "sound", *SMALL).returncode == 0
    vectors = [
        pq.read_table(tmp_path / name / "data", columns=["id", "embedding"]).sort_by("id") for name in ("out", "sound")
    ]
    assert vectors[0].equals(vectors[1])


@pytest.mark.parametrize("bad", [{18}, pytest.param({0, 133, 299}, marks=pytest.mark.slow)])
def test_a_row_that_kills_the_process_is_found_by_running_again(tmp_path: Path, bad: set[int]) -> None:
    faked = FakedCommand(tmp_path / "faked", 'if holds("POISON"): os.kill(os.getpid(), signal.SIGKILL)')
    corpus(tmp_path / "in", bad)
    smaller = ("--set", "run.chunk_tokens=160")
    n_deaths = 0
    while (done := faked.run(tmp_path / "in", tmp_path / "out", *smaller)).returncode:
        assert done.returncode == -signal.SIGKILL, done.stderr
        n_deaths += 1
        assert n_deaths <= len(bad) * (3 + 4 + 3), "a chunk of at most 16 rows is halved four times"
    check_all_but(tmp_path / "out", bad, "the process died 3 times with this row alone")
    assert not list((tmp_path / "out/.attempts").iterdir())
    assert faked.run(tmp_path / "in", tmp_path / "out", *SMALL).returncode == 0
    assert status(tmp_path / "out")["engine_calls"] == 0


def test_a_process_that_dies_while_it_loads_is_no_chunks_fault(tmp_path: Path) -> None:
    faked = FakedCommand(tmp_path / "faked", "os.kill(os.getpid(), signal.SIGKILL)")
    source = corpus(tmp_path / "in", set())
    for _ in range(4):
        assert faked.run(source, tmp_path / "out", *SMALL).returncode == -signal.SIGKILL
    assert not (tmp_path / "out/.attempts").exists()
    faked.engine("")
    assert faked.run(source, tmp_path / "out", *SMALL).returncode == 0
    check_all_but(tmp_path / "out", set(), "")
