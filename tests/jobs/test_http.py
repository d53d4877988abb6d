"""serve_http: what a deploy registers, and that it serves what `embed-corpus serve` serves and dies with it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from modal_proto import api_pb2 as api

from tests.support import REPOSITORY
from tests.support.http_server import alive, engine_of, free_port, tree
from tests.support.modal_jobs import House, house, needs_plane

SECRETS = {"vllm-embedding-api-key": {"VLLM_API_KEY": "sk-of-a-test"}}
SERVE = """
import sys, threading
from jobs import embedding_service as service
service.HTTP_PORT = int(sys.argv[1])
service.serve_http.local()
print("serving", flush=True)
threading.Event().wait()
"""


def deployed(home: House, **env: str) -> list[api.Function]:
    """Deploy the service and return the definitions of serve_http."""
    done = home.plane.modal(
        "deploy",
        "jobs/embedding_service.py",
        cwd=home.folder,
        env={"EMBED_CONFIG": "configs/kalm-gemma3-12b.toml", **env},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [f.definition for f in home.plane._plane.functions.values() if f.name == "serve_http"]


@needs_plane
def test_a_deploy_registers_a_web_server_with_its_key_when_it_was_asked_for_and_only_then(tmp_path: Path) -> None:
    with house(tmp_path, seeded=False, secrets=SECRETS) as home:
        assert deployed(home) == []
        [found] = deployed(home, EMBED_HTTP="1")
        assert found.webhook_config.type == api.WEBHOOK_TYPE_WEB_SERVER
        assert len(found.secret_ids) == 1
        assert not found.webhook_config.requires_proxy_auth
        assert found.autoscaler_settings.max_containers == 1
        assert found.autoscaler_settings.scaledown_window == 300
        assert found.resources.gpu_config.gpu_type == "A100-40GB"
        assert (found.resources.milli_cpu, found.resources.memory_mb) == (4000, 16 * 1024)
        assert not found.is_checkpointing_function
        assert len(found.volume_mounts) == 4


@contextlib.contextmanager
def serve(port: int, before: str = "", **env: str) -> Iterator[subprocess.Popen[str]]:
    """Yield the process of a container that has begun to serve; it is killed where a test leaves it."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{SERVE}", str(port)],
        cwd=REPOSITORY,
        env={**os.environ, "EMBED_CONFIG": "configs/local.toml", "EMBED_HTTP": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "serving\n"
            yield process
        finally:
            process.kill()


def ask(port: int, method: str, path: str, key: str) -> tuple[int, str]:
    """Return status and message of an answer that is an error."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, '{"input": "x"}' if method == "POST" else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]["message"]


REQUESTS = [("POST", "/v1/embeddings"), ("GET", "/v1/models"), ("GET", "/health"), ("GET", "/")]
WITHHELD = "server: expected one that has started, found none; its log says why"
KEY = "sk-of-a-test"
ENDS = "from pipeline.serve import server\nserver.server_command = lambda *_: ['false']"


@pytest.mark.parametrize(
    ("before", "env", "reason"),
    [
        ("", {"EMBED_CONFIG": "configs/hashing.toml"}, "server: expected engine.kind vllm, found hashing"),
        (ENDS, {}, "server: ended with exit code 1; its last lines: none"),
    ],
)
def test_a_container_whose_model_does_not_load_says_so_to_every_client_with_the_key(
    before: str, env: Mapping[str, str], reason: str
) -> None:
    port = free_port()
    with serve(port, before, VLLM_API_KEY=KEY, **env) as process:
        for method, path in REQUESTS:
            assert ask(port, method, path, KEY) == (503, reason)
            assert ask(port, method, path, "") == (503, WITHHELD)
        assert process.poll() is None
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert f"the server did not start: {reason}" in errors
    assert KEY not in errors


def test_a_container_without_a_key_says_so_to_everyone() -> None:
    port = free_port()
    with serve(port, VLLM_API_KEY=""):
        status, message = ask(port, "POST", "/v1/embeddings", "")
        assert (status, "expected a key, found none" in message) == (503, True)


@pytest.mark.slow
def test_the_container_serves_with_the_key_of_its_environment_and_dies_with_the_server() -> None:
    port = free_port()
    with serve(port, VLLM_API_KEY="sk-of-a-test") as process:
        environment = {**os.environ, "BASE_URL": f"http://127.0.0.1:{port}", "OPENAI_API_KEY": "sk-of-a-test"}
        client = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/serve/test_embedding_client.py"],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert client.returncode == 0, client.stdout
        below = tree(process.pid)
        os.kill(engine_of(process.pid), 9)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "server: ended with exit code 1; engine: ended by signal 9" in errors.splitlines()[-1]
    assert "sk-of-a-test" not in errors
    assert not [pid for pid in below if alive(pid)]
