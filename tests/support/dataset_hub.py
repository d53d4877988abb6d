"""As much of the Hugging Face hub as its client needs to make a repository and to commit files, on 127.0.0.1."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_token_that_may_write"


@dataclass
class DatasetHub:
    """A hub of datasets; what a test sets holds from the next request on."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # repository -> path -> content
    private: dict[str, bool] = field(default_factory=dict)
    large: bool = True  # whether parts travel as large files, by LFS, or within the commit
    fail_at: str = ""  # the path of requests that the hub answers with 500 and nothing else
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by SHA-256
    commits: list[list[str]] = field(default_factory=list)  # of each commit "+path" and "-path"
    requests: list[str] = field(default_factory=list)  # "METHOD path"
    uploads: list[str] = field(default_factory=list)  # SHA-256 of each large file that came
    url: str = ""

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Return what makes the hub's client talk to this hub, with large files by LFS."""
        client = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        return {**client, "HF_TOKEN": TOKEN, **more}


@contextmanager
def dataset_hub() -> Iterator[DatasetHub]:
    """Run a hub without a repository."""
    state = DatasetHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            self.handled()

        def do_PUT(self) -> None:
            self.handled()

        def do_POST(self) -> None:
            self.handled()

        def handled(self) -> None:
            path = unquote(urlsplit(self.path).path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.requests.append(f"{self.command} {path}")
            if path.startswith("/objects/"):
                self.answer(*stored(path.removeprefix("/objects/"), body))
            elif state.fail_at and state.fail_at in path:
                self.answer(500, {"error": "broken"})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "who are you"})
            else:
                self.answer(*answered(self.command, path, body))

        def answer(self, code: int, found: Any) -> None:
            data = json.dumps(found).encode()
            self.send_response(code)
            if code == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def stored(sha: str, body: bytes) -> tuple[int, Any]:
        if state.fail_at == "/objects/":
            return 400, {}
        assert hashlib.sha256(body).hexdigest() == sha
        state.objects[sha] = body
        state.uploads.append(sha)
        return 200, {}

    def answered(method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            assert asked["type"] == "dataset"
            state.files[name], state.private[name] = {}, asked.get("visibility") == "private"
            return 200, {"url": f"{state.url}/datasets/{name}", "id": name, "name": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        name = "/".join(path.removeprefix("/api").removeprefix("/datasets/").split("/")[:2]).removesuffix(".git")
        if name not in state.files:
            return 404, {"error": "Repository not found"}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": list(map(batched, json.loads(body)["objects"]))}
        if "/preupload/" in path:
            return 200, {"files": [mode(name, each) for each in json.loads(body)["files"]]}
        if "/commit/" in path:
            return committed(name, body)
        siblings = [{"rfilename": each} for each in state.files[name]]
        found = {"id": name, "sha": "0" * 40, "private": state.private[name], "siblings": siblings, "tags": []}
        return (200, found) if method == "GET" else (400, {})

    def mode(name: str, file: dict[str, Any]) -> dict[str, Any]:
        is_large = state.large and file["path"].endswith(".parquet")
        there = state.files[name].get(file["path"])
        oid = there and (hashlib.sha256(there).hexdigest() if is_large else blob(there))
        found = {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
        return found | ({"oid": oid} if oid else {})

    def batched(wanted: dict[str, Any]) -> dict[str, Any]:
        sha = wanted["oid"]
        upload = {"actions": {"upload": {"href": f"{state.url}/objects/{sha}", "header": {}}}}
        return {"oid": sha, "size": wanted["size"]} | ({} if sha in state.objects else upload)

    def committed(name: str, body: bytes) -> tuple[int, Any]:
        changes = []
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                state.files[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                state.files[name][value["path"]] = state.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del state.files[name][value["path"]]
            if line["key"] != "header":
                changes.append(("-" if line["key"] == "deletedFile" else "+") + value["path"])
        state.commits.append(changes)
        oid = f"{len(state.commits):040d}"
        return 200, {"commitUrl": f"{state.url}/datasets/{name}/commit/{oid}", "commitOid": oid}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def blob(content: bytes) -> str:
    """Return git's hash of a file."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
