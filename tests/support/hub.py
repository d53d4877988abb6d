"""As much of the Hugging Face hub as its client needs to resolve a branch and to fetch files, on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """A hub with one model or data set; what a test sets holds from the next request on."""

    name: str
    kind: str = "models"  # or "datasets"
    branches: dict[str, str] = field(default_factory=dict)  # branch -> commit
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> path -> content
    token: str = ""  # without it files are refused, as those of a gated model are
    break_after: int = 0  # bytes of the next large file after which the connection breaks, once
    corrupt: str = ""  # path of a file that comes with a byte changed
    before: Callable[[str], None] = lambda path: None  # is called before the file of a path is sent
    requests: list[str] = field(default_factory=list)  # "METHOD path [range]"
    url: str = ""

    def commit(self, branch: str, files: Mapping[str, bytes]) -> str:
        """Put files on a branch and return the commit hash."""
        text = json.dumps({path: hashlib.sha1(content).hexdigest() for path, content in sorted(files.items())})
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.branches[branch], self.commits[commit] = commit, dict(files)
        return commit

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Return what makes the hub's client talk to this hub, with a cache of its own."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": "", **more}

    def downloads(self) -> list[str]:
        """Return the paths that were fetched, with the range where one was asked for."""
        files = "GET /" + ("" if self.kind == "models" else f"{self.kind}/") + self.name
        return [request.rpartition("/")[2] for request in self.requests if request.startswith(files)]


@contextmanager
def hub(name: str, kind: str = "models") -> Iterator[Hub]:
    """Run a hub for one model or data set."""
    state = Hub(name, kind)
    below = f"/{name}/resolve/" if kind == "models" else f"/{kind}/{name}/resolve/"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            asked = self.headers.get("Range", "")
            state.requests.append(f"{self.command} {path}{f' {asked}' if asked else ''}")
            if path.startswith(f"/api/{kind}/{name}/"):
                asked_for, _, revision = path.removeprefix(f"/api/{kind}/{name}/").partition("/")
                self.api(asked_for, revision.partition("/")[0])
            elif path.startswith(below):
                revision, _, file = path.removeprefix(below).partition("/")
                self.file(revision, file)
            else:
                self.error(401, "RepoNotFound")

        def api(self, kind: str, revision: str) -> None:
            commit = state.branches.get(revision, revision)
            if commit not in state.commits:
                self.error(404, "RevisionNotFound")
            elif kind == "revision":
                self.answer(json.dumps({"id": name, "sha": commit, "siblings": []}).encode())
            else:
                self.answer(json.dumps([entry(*item) for item in state.commits[commit].items()]).encode())

        def file(self, commit: str, path: str) -> None:
            if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
                self.error(401, "GatedRepo")
                return
            if path not in state.commits[commit]:
                self.error(404, "EntryNotFound")
                return
            if self.command == "GET":
                state.before(path)
            content = state.commits[commit][path]
            etag = entry(path, content)["oid"] if not is_large(path) else hashlib.sha256(content).hexdigest()
            if path == state.corrupt:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self.answer(content, **{"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"})

        def answer(self, content: bytes, **headers: str) -> None:
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            if headers and state.break_after and len(content) > state.break_after:
                content, state.break_after = content[: state.break_after], 0
                self.close_connection = True
            self.wfile.write(content[start:])

        def error(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

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


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".onnx", ".bin"))


def entry(path: str, content: bytes) -> dict[str, object]:
    """Return a line of a tree as the hub has it: git's hash, and that of the content for a large file."""
    oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    large = {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}
    return {"type": "file", "path": path, "size": len(content), "oid": oid, **(large if is_large(path) else {})}
