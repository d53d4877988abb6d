"""How containers of the service start and end: what fails is said to the callers, and one that leaves goes alone."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.modal_jobs import CLASS, ROWS, House, house, needs_plane
from tests.support.plane import eventually

pytestmark = needs_plane

ASK = """
import json, modal, sys
service = modal.Cls.from_name("vllm-embedding-snapshot", "VLLMEmbeddingSnapshot")()
try:
    print(json.dumps(len(service.embed.remote(["one", "two"]))))
except Exception as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
records = modal.Dict.from_name("embedding-containers", create_if_missing=True).values()
print(json.dumps(list(records)))
"""
CALL = """
import modal
service = modal.Cls.from_name("vllm-embedding-snapshot", "VLLMEmbeddingSnapshot")()
service.embed.remote(["slow", "another"])
"""
RELEASE = 'import modal; modal.Dict.from_name("embedding-locks")["go on"] = 1'
ABOUT = """
import json, modal
about = modal.Function.from_name("vllm-embedding-snapshot", "about")
print(json.dumps([about.remote(), about.remote("configs/hashing.toml")]))
"""


def deploy(home: House) -> None:
    done = home.modal("deploy", "jobs/embedding_service.py")
    assert done.returncode == 0, done.stdout + done.stderr


def ask(home: House) -> tuple[object, list[dict[str, object]]]:
    """Call the deployed service; return what it said, and the records of its containers."""
    done = home.plane.python("-c", ASK, cwd=home.folder)
    assert done.returncode == 0, done.stderr
    said, records = map(json.loads, done.stdout.splitlines())
    return said, records


def broken(home: House, code: str) -> None:
    """Let the making of the engine begin with `code`."""
    home.engine(0.0)
    fake = home.folder / "pipeline/engines/fake.py"
    fake.write_text(
        fake.read_text().replace(
            "    def embed(",
            f"    def __init__(self, config):\n        super().__init__(config)\n{code}\n    def embed(",
            1,
        )
    )


@pytest.mark.parametrize("snapshot", ["true", "false"])
def test_an_engine_that_does_not_load_is_said_to_who_calls(tmp_path: Path, snapshot: str) -> None:
    """A hook that raises is started again for ever; here at most as often as the call is tried again."""
    with house(tmp_path, seeded=False, modal=f"snapshot = {snapshot}", max_deaths_deployed=6) as home:
        broken(home, "        raise RuntimeError('found no GPU')")
        deploy(home)
        said, records = ask(home)
        assert str(said).startswith("BrokenEngineError:")
        assert "found no GPU" in str(said)
        seen = home.plane.seen.of(CLASS)
        assert 1 <= len(seen) <= 3, "as often as the call is tried"
        assert all(container.why != "crashed" for container in seen)
        assert {"found no GPU" in str(record["error"]) for record in records} == {True}


def test_a_failed_load_is_in_no_snapshot(tmp_path: Path) -> None:
    once = """
        import pathlib
        from jobs import resources
        if resources.locks.put("failed", 1, skip_if_exists=True):
            raise RuntimeError("the first load fails")"""
    with house(tmp_path, seeded=False, modal="snapshot = true") as home:
        broken(home, once)
        deploy(home)
        said, [record] = ask(home)
        assert said == 2
        assert record["error"] == ""
        assert record["ready_at"]


def test_an_engine_that_does_not_wake_is_loaded_anew(tmp_path: Path) -> None:
    with house(tmp_path, seeded=False, modal="snapshot = true") as home:
        home.engine(0.0)
        fake = home.folder / "pipeline/engines/fake.py"
        sleeper = (
            "    def sleep(self):\n        pass\n\n    def wake(self):\n        raise RuntimeError('did not wake')\n\n"
        )
        fake.write_text(fake.read_text().replace("    def embed(", f"{sleeper}    def embed(", 1))
        deploy(home)
        said, [record] = ask(home)
        assert (said, record["error"]) == (2, "")
        [container] = home.plane.seen.of(CLASS)
        assert container.why == "running"


def test_one_who_leaves_ends_its_own_call_alone(tmp_path: Path) -> None:
    """Modal ends the whole container of a concurrent method that is not async, with the run's chunks in it."""
    hold = """
        from jobs import resources
        while holds('slow') and "go on" not in resources.locks:
            time.sleep(0.05)
    """
    with house(tmp_path, chunk_tokens=2000) as home, ThreadPoolExecutor(1) as aside:
        home.engine(0.0, hold)
        deploy(home)
        started, finished = home.plane.seen.inputs_started, home.plane.seen.inputs_finished
        with subprocess.Popen([sys.executable, "-c", CALL], env=home.plane.env) as caller:
            eventually(lambda: started[f"{CLASS}.embed"], timeout_s=60)
            running = aside.submit(home.run, "--input", "books/")
            eventually(lambda: started[f"{CLASS}.embed_chunk"], timeout_s=60)
            caller.kill()
        eventually(home.plane.cancel_orphans)
        eventually(lambda: "Successfully canceled input" in home.plane.logs())
        released = home.plane.python("-c", RELEASE, cwd=home.folder)
        assert released.returncode == 0, released.stderr
        running.result()
        home.check_complete("books", tmp_path / "out", ROWS)
        assert [container.why for container in home.plane.seen.of(CLASS)] == ["running"]
        assert (started[f"{CLASS}.embed"], finished[f"{CLASS}.embed"]) == (1, 0)
        assert started[f"{CLASS}.embed_chunk"] == finished[f"{CLASS}.embed_chunk"] > 2


def test_the_service_says_what_is_deployed(tmp_path: Path) -> None:
    with house(tmp_path, seeded=False) as home:
        deploy(home)
        done = home.plane.python("-c", ABOUT, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        whole, one = json.loads(done.stdout)
        digest = home.plane.python("-c", "from jobs import resources; print(resources.code_digest())", cwd=home.folder)
        assert digest.stdout.strip() == whole["code"], digest.stderr
        assert (whole["config"], whole["gpu"]) == ("configs/hashing.toml", "")
        assert whole["models"]["configs/kalm-gemma3-12b.toml"] == "tencent/KaLM-Embedding-Gemma3-12B-2511"
        assert "configs/cron.toml" not in whole["models"]
        assert (one["model"]["name"], one["engine"]) == ("hashing", "hashing")
        assert home.plane.seen.of(CLASS) == []
