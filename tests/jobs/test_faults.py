"""What Modal does to a run: containers die, results and commits are lost, calls are preempted. Nothing else may be."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.modal_loopback import DropResult, FailCommit, KillAtInput
from tests.modal_loopback.knobs import Rule
from tests.support import texts, write_jsonl
from tests.support.modal_jobs import CLASS, ROWS, embedded, house, needs_plane, replace_in

pytestmark = needs_plane
SLOW = pytest.mark.slow
CHUNK_TOKENS = 2000
MAX_CHUNK_TEXTS = 200  # about, of that many tokens; each fault may cost the two chunks in flight


@pytest.mark.parametrize(
    ("fault", "n_lost_chunks"),
    [
        pytest.param(
            KillAtInput(on=CLASS, nth=6, after_s=0.15), 2, id="the container is killed in the middle of a chunk"
        ),
        pytest.param(
            KillAtInput(on=CLASS, nth=6, strikes="drive"), 2, id="the driver is killed in the middle of the map"
        ),
        pytest.param(DropResult(on=CLASS, nth=5, kill=False), 0, id="a result is lost after its part was published"),
        pytest.param(DropResult(on=CLASS, nth=5), 1, id="a result is lost with its container", marks=SLOW),
        pytest.param(FailCommit(on="embedding-output", nth=1), 0, id="the first commit fails", marks=SLOW),
        pytest.param(FailCommit(on="embedding-output", nth=7), 0, id="a commit fails"),
        pytest.param(FailCommit(on="embedding-output", nth=range(5, 9)), 0, id="four commits fail", marks=SLOW),
    ],
)
def test_a_run_comes_through_or_says_so_and_goes_on(tmp_path: Path, fault: Rule, n_lost_chunks: int) -> None:
    with house(tmp_path, chunk_tokens=CHUNK_TOKENS, delay_s=0.15, faults=[fault]) as home:
        first = home.modal("run", "jobs/embed_corpus.py", "--input", "books/")
        printed = first.stdout + first.stderr
        assert home.plane.faults.fired, "the fault did not happen"
        home.plane.faults.clear()
        if first.returncode:
            assert first.returncode in (1, 3), printed
            printed += home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", ROWS)
        assert len(ROWS) <= embedded(printed) <= len(ROWS) + n_lost_chunks * MAX_CHUNK_TEXTS


@pytest.mark.parametrize("deployed", [True, pytest.param(False, marks=SLOW)])
def test_a_row_that_kills_its_container_is_found_and_rejected_alone(tmp_path: Path, deployed: bool) -> None:
    """Modal starts an input of a deployed app again for ever; background commits show what is half done."""
    rows = texts(8)
    rows[5]["text"] = "killer"
    with house(tmp_path, seeded=False, background_commit_s=0.05) as home:
        write_jsonl(tmp_path / "corpus/books/a.jsonl.gz", rows[:4])
        write_jsonl(tmp_path / "corpus/books/b.jsonl.gz", rows[4:])
        home.plane.seed("embedding-corpus", tmp_path / "corpus")
        home.engine(0.05, "if holds('killer'): os.kill(os.getpid(), signal.SIGKILL)")
        if deployed:
            assert home.modal("deploy", "jobs/embedding_service.py").returncode == 0
        assert "7 embedded, 1 rejected" in home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", [row for row in rows if row["text"] != "killer"])
        [reject] = pq.read_table(tmp_path / "out/rejects").to_pylist()
        assert (reject["id"], reject["reason"]) == (rows[5]["id"], "engine_error")
        assert reject["detail"] == "the process died 3 times with this row alone"
        n_deaths = sum(container.why == "crashed" for container in home.plane.seen.of(CLASS))
        assert n_deaths == 3 + 2 + 3, "as a chunk of 8, as halves of 4 and 2, and alone"


@SLOW
def test_a_container_whose_engine_breaks_is_replaced(tmp_path: Path) -> None:
    broken = """
        self.n_calls = getattr(self, "n_calls", 0) + 1
        if self.n_calls > 14:
            raise RuntimeError("device-side assert triggered")
    """
    with house(tmp_path, chunk_tokens=2000) as home:
        home.engine(0.0, broken)
        printed = home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", ROWS)
        assert "0 rejected" in printed
        assert len(home.plane.seen.of(CLASS)) > 2
        assert all(container.why != "crashed" for container in home.plane.seen.of(CLASS))


def test_a_driver_whose_time_is_up_hands_over_to_a_fresh_one(tmp_path: Path) -> None:
    hours = 4.0 / 3600
    modal = f"driver_hours = {hours}\nmax_containers = 1"
    with house(tmp_path, chunk_tokens=500, delay_s=0.05, modal=modal) as home:
        printed = home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", ROWS)
        assert home.plane.seen.inputs_finished["drive"] > 1
        assert embedded(printed) == len(ROWS)


def test_a_service_that_cannot_load_its_model_ends_the_run_with_one_line(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        engine = home.folder / "pipeline/engines/vllm.py"
        engine.write_text(
            f"{engine.read_text()}\n\ndef VLLMEmbedder(*_):\n    raise EngineError('engine: found no GPU')\n"
        )
        printed = home.run("--input", "books/", config="configs/local.toml", code=1)
        said = [line for line in printed.splitlines() if line.startswith("embed-corpus:")]
        [error] = [line for line in said if "model.dtype auto is" not in line]
        assert "engine: found no GPU" in error


def test_weights_that_are_not_those_of_the_config_are_refused_before_a_container_is_rented(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        config = home.folder / "configs/broken.toml"
        local = (home.folder / "configs/local.toml").read_text()
        config.write_text(local.replace("sha256:53aa", "sha256:00aa"))
        printed = home.run("--input", "books/", config="configs/broken.toml", code=2)
        assert "sha256 00aa" in printed
        assert home.plane.seen.of(CLASS) == []


def test_the_manifest_is_on_the_volume_while_the_run_goes_on(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=CHUNK_TOKENS, delay_s=0.4) as home:
        replace_in(home, "jobs/fan_out.py", "COMMIT_EVERY_S = 10.0", "COMMIT_EVERY_S = 0.2")
        home.plane.seed("embedding-output", tmp_path / "nothing", version=2)
        with ThreadPoolExecutor(1) as aside:
            running = aside.submit(home.run, "--input", "books/")
            n_receipts = 0
            while n_receipts < 3:
                assert not running.done(), running.result()
                threading.Event().wait(0.05)
                manifest = home.plane.committed("embedding-output").get("books/manifest.jsonl")
                text = manifest.read_bytes() if manifest else b""
                assert b'"state":"complete"' not in text, "it is there at the end alone"
                n_receipts = text.count(b'"kind":"receipt"')
            running.result()
        home.check_complete("books", tmp_path / "out", ROWS)


@SLOW
def test_a_run_whose_lock_another_took_ends_and_the_next_goes_on(tmp_path: Path) -> None:
    """The engine plays the other run, which has died since."""
    another = """
        from jobs import resources
        if len(token_ids) > 1 and resources.locks.put("once", 1, skip_if_exists=True):
            resources.locks.put("books", {"owner": "another", "beat_at": 0.0})
    """
    with house(tmp_path, chunk_tokens=CHUNK_TOKENS) as home:
        home.engine(0.7, another)
        printed = home.run("--input", "books/", code=4)
        assert "another run took it over" in printed
        assert embedded(printed) < len(ROWS)
        printed += home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", ROWS)
        assert embedded(printed) <= len(ROWS) + 4 * MAX_CHUNK_TEXTS
