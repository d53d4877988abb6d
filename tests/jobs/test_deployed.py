"""Driver and service as a user leaves them on Modal: deployed, far from the terminal, and of one version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import status
from tests.support.modal_jobs import CLASS, ROWS, House, embedded, house, needs_plane, replace_in

pytestmark = needs_plane
CPU_CLASS = "VLLMEmbeddingCPU"


def deploy(home: House, *jobs: str, config: str = "configs/hashing.toml") -> None:
    for job in jobs or ("embedding_service", "embed_corpus"):
        done = home.modal("deploy", f"jobs/{job}.py", config=config)
        assert done.returncode == 0, done.stdout + done.stderr


def with_gpu(home: House, name: str, gpu: str) -> str:
    """Write a config of the hashing engine that asks for a GPU; return its path."""
    text = (home.folder / "configs/hashing.toml").read_text()
    (home.folder / f"configs/{name}.toml").write_text(f'{text}\ngpu = "{gpu}"\n')
    return f"configs/{name}.toml"


def test_a_run_of_the_deployed_driver_outlives_its_terminal(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=2000, delay_s=0.3) as home:
        deploy(home)
        command = [sys.executable, "-m", "modal", "run", "jobs/embed_corpus.py", "--input", "books/"]
        environment = home.plane.env | {"EMBED_CONFIG": "configs/hashing.toml"}
        with subprocess.Popen(
            command, cwd=home.folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as terminal:
            assert terminal.stdout is not None
            said = "".join(iter(terminal.stdout.readline, "")) if terminal.poll() is not None else ""
            while "as call" not in said:
                said += terminal.stdout.readline()
            [call] = [word.strip(",") for word in said.split() if word.startswith("fc-")]
            os.killpg(terminal.pid, signal.SIGKILL)
        assert home.plane.wait(call).status == "SUCCESS"
        home.check_complete("books", tmp_path / "out", ROWS)
        assert {container.app for container in home.plane.seen.of("drive")} == {"embed-corpus"}
        assert home.plane.seen.max_containers[CLASS] == 1


def test_a_run_names_its_page_and_its_logs(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        deploy(home)
        printed = home.run("--input", "books/")
        assert "https://modal.com/id/fc-" in printed
        assert "modal app logs embed-corpus; of the engine: modal app logs vllm-embedding-snapshot" in printed


@pytest.mark.parametrize("stale", ["embed_corpus", "embedding_service"])
def test_code_that_differs_from_what_is_deployed_is_refused_before_a_container_is_rented(
    tmp_path: Path, stale: str
) -> None:
    with house(tmp_path) as home:
        deploy(home)
        code = home.folder / "pipeline/vectors.py"
        code.write_text(code.read_text() + "\n# another version\n")
        deploy(home, *{"embed_corpus", "embedding_service"} - {stale})
        printed = home.run("--input", "books/", code=2)
        assert "make deploy" in printed
        assert home.plane.seen.of(CLASS) == []


def test_a_config_without_a_gpu_rents_none_whatever_was_deployed(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=20_000) as home:
        deploy(home, config=with_gpu(home, "rich", "A100-40GB"))
        home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", ROWS)
        assert [container.gpu for container in home.plane.seen.of(CPU_CLASS)] == [""]
        assert home.plane.seen.of(CLASS) == []


def test_two_configs_with_two_gpus_never_meet(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=20_000) as home:
        small, large = with_gpu(home, "small", "L4"), with_gpu(home, "large", "A100-40GB")
        deploy(home, config=small)
        for config in (large, small):
            home.run("--input", "books/", "--config", config, "--output", Path(config).stem, config=large)
        assert [container.gpu for container in home.plane.seen.of(CLASS)] == ["A100-40GB", "L4"]


def test_a_pool_of_its_own_goes_when_the_run_ends(tmp_path: Path) -> None:
    with house(tmp_path, chunk_tokens=20_000) as home:
        deploy(home)
        home.run("--input", "books/", "--own-pool")
        [own] = home.plane.seen.of(CLASS)
        home.run("--input", "books/", "--output", "other")
        assert own.function_id != home.plane.seen.of(CLASS)[1].function_id


@pytest.mark.parametrize("deployed", [True, False])
def test_a_class_that_cannot_load_ends_the_run_with_its_reason(tmp_path: Path, deployed: bool) -> None:
    with house(tmp_path, chunk_tokens=500) as home:
        break_engine(home, "from pipeline.errors import EngineError; raise EngineError('engine: found no GPU')")
        if deployed:
            deploy(home)
        printed = home.run("--input", "books/", code=1)
        assert "embed-corpus: engine: found no GPU" in printed
        assert 1 <= len(home.plane.seen.of(CLASS)) <= 4


def test_a_container_that_never_gets_ready_ends_the_run_with_its_last_words(tmp_path: Path) -> None:
    """Modal starts it again for ever: nothing but the driver can see that no chunk ends."""
    with house(tmp_path, chunk_tokens=500) as home:
        break_engine(home, "import os; os.kill(os.getpid(), 9)")
        replace_in(home, "jobs/fan_out.py", "FIRST_CHUNK_S = 300.0", "FIRST_CHUNK_S = 3.0")
        replace_in(home, "jobs/fan_out.py", "resources.STARTUP_TIMEOUT_S +", "1 +")
        deploy(home)
        printed = home.run("--input", "books/", code=3)
        assert "chunks did not finish (the service: no chunk ended within" in printed
        assert "had not loaded the model by then" in printed
        assert len(home.plane.seen.of(CLASS)) > 1
        assert home.plane.n_unfinished == 0, "the map was cancelled"


@pytest.mark.parametrize(("max_usd", "code"), [(0.3, 3), pytest.param(100.0, 0, marks=pytest.mark.slow)])
def test_a_budget_ends_a_run_before_it_is_passed(tmp_path: Path, max_usd: float, code: int) -> None:
    with house(tmp_path, chunk_tokens=1500, delay_s=0.5, modal="usd_per_hour = 100.0") as home:
        replace_in(home, "jobs/budget.py", "FIRST_CHUNK_S = 120.0", "FIRST_CHUNK_S = 1.0")
        replace_in(home, "jobs/budget.py", "FIRST_START_S = 300.0", "FIRST_START_S = 1.0")
        replace_in(home, "jobs/resources.py", "SERVICE_IDLE_S = 5 * MINUTES", "SERVICE_IDLE_S = 2")
        replace_in(home, "jobs/containers.py", "BEAT_S = 5.0", "BEAT_S = 0.25")
        replace_in(home, "jobs/meter.py", "READ_EVERY_S = 5.0", "READ_EVERY_S = 0.0")
        deploy(home)
        printed = home.run("--input", "books/", "--max-usd", str(max_usd), code=code)
        spent = status(home.dataset("books", tmp_path / "out"))["cost_usd"]
        assert 0 < spent <= max_usd
        if code:
            assert f"--max-usd {max_usd:.2f}: $" in printed
            assert 0 < embedded(home.plane.logs()) < len(ROWS)
            home.run("--input", "books/")
        home.check_complete("books", tmp_path / "out", ROWS)


def test_amounts_that_are_none_are_refused(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        for amount in ("0", "-1", "nan"):
            assert "--max-usd: expected dollars over 0" in home.run("--input", "books/", "--max-usd", amount, code=2)


def break_engine(home: House, code: str) -> None:
    head = "    def __init__(self, config: Config) -> None:\n"
    replace_in(home, "pipeline/engines/hashing.py", head, f"{head}        {code}\n")
