"""How containers of the service start and end: what fails is said to the callers, and one that leaves goes alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.modal_jobs import CLASS, House, house, needs_plane

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
LEAVE = """
import modal, os, threading, time
service = modal.Cls.from_name("vllm-embedding-snapshot", "VLLMEmbeddingSnapshot")()
print(len(service.embed.remote(["one"])), flush=True)
threading.Timer(1.0, os._exit, [0]).start()
service.embed.remote(["slow", "another"])
"""
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
    with house(tmp_path, chunk_tokens=2000, orphan_s=1.5) as home:
        home.engine(0.1, "if holds('slow'): time.sleep(5)")
        deploy(home)
        left = home.plane.python("-c", LEAVE, cwd=home.folder)
        assert left.returncode == 0, left.stderr
        home.run("--input", "books/")
        seen = home.plane.seen
        assert [container.why for container in seen.of(CLASS)] == ["running"]
        started, finished = seen.inputs_started, seen.inputs_finished
        assert (started[f"{CLASS}.embed"], finished[f"{CLASS}.embed"]) == (2, 1), "the call was not cancelled"
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
