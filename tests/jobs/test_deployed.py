"""Driver and service as a user leaves them on Modal: deployed, far from the terminal, and of one version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.modal_jobs import CLASS, ROWS, House, embedded, house, needs_plane

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


def test_a_deployed_class_that_cannot_load_ends_the_run_soon(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        engine = home.folder / "pipeline/engines/hashing.py"
        engine.write_text(
            engine.read_text().replace(
                "def __init__(self",
                "def __init__(self, *_):\n        raise EngineError('engine: found no GPU')\n\n    def _unused(self",
            )
        )
        deploy(home)
        printed = home.modal("run", "jobs/embed_corpus.py", "--input", "books/")
        said = printed.stdout + printed.stderr
        assert printed.returncode not in (0, None), said
        assert "engine: found no GPU" in said
        assert len(home.plane.seen.of(CLASS)) <= 4


def test_a_container_that_never_starts_ends_the_run_with_its_last_words(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        service = home.folder / "jobs/embedding_service.py"
        service.write_text(
            service.read_text() + "\nif os.environ.get('MODAL_TASK_ID') and 'VLLM' in str(sys.argv):\n    pass\n"
        )
        fan_out = home.folder / "jobs/fan_out.py"
        fan_out.write_text(fan_out.read_text().replace("FIRST_CHUNK_S = 300.0", "FIRST_CHUNK_S = 1.0"))


def test_the_rows_are_not_embedded_twice_where_the_driver_dies(tmp_path: Path) -> None:
    assert embedded("") == 0
    assert tmp_path.exists()
