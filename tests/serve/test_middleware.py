"""The door of the server, without a server: what it lets through and what it says to the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.serve import middleware as door
from pipeline.serve.middleware import digest

DIMS = (384, 128)
OPEN = door.Settings(key_sha256=None, dims=DIMS)
CLOSED = door.Settings(key_sha256=digest("right"), dims=DIMS)
TEXTS = st.text().filter(lambda text: text.strip() and text.isascii())
PATHS = [
    *("/", "/v1/models", "/v1/embeddings", "/v2/embed", "/pooling", "/tokenize", "/invocations", "/metrics", "/docs"),
    *("/openapi.json", "/health/", "/healthy", "//health", "/ping", "/version"),
]


def knock(
    monkeypatch: pytest.MonkeyPatch,
    settings: door.Settings,
    path: str = "/v1/embeddings",
    *,
    key: str | None = None,
    method: str = "POST",
    chunks: Sequence[bytes] = (b'{"input": "x"}',),
    kind: str = "http",
) -> tuple[int, bytes]:
    """Return the status and the body that a client sees; the app behind the door answers 200 with what it was sent."""
    monkeypatch.setenv(door.VARIABLE, settings.to_json())
    sent: list[dict[str, Any]] = []
    arriving = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    arriving.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return arriving.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def behind(_scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})

    headers = [(b"authorization", f"Bearer {key}".encode())] if key is not None else []
    scope = {"type": kind, "path": path, "method": method, "headers": headers}
    asyncio.run(door.AccessMiddleware(behind)(scope, receive, send))
    return sent[0]["code" if kind == "websocket" else "status"], sent[-1].get("body", b"")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_every_path_but_health_wants_the_key(monkeypatch: pytest.MonkeyPatch, path: str, method: str) -> None:
    for key in (None, "", "wrong", "right ", "RIGHT", digest("right")):
        assert knock(monkeypatch, CLOSED, path, method=method, key=key)[0] == 401
    assert knock(monkeypatch, CLOSED, path, method=method, key="right")[0] == 200


def test_health_is_open_and_a_websocket_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert knock(monkeypatch, CLOSED, "/health", method="GET")[0] == 200
    assert knock(monkeypatch, OPEN, "/v1/embeddings", kind="websocket")[0] == 1008


def test_a_body_goes_through_as_it_came_and_only_so_large(monkeypatch: pytest.MonkeyPatch) -> None:
    start, end = b'{"input": "', b'"}'
    most = b"x" * (door.MAX_BODY_BYTES - len(start) - len(end))
    assert knock(monkeypatch, OPEN, chunks=[start, most, end]) == (200, start + most + end)
    status, answer = knock(monkeypatch, OPEN, chunks=[start, most, b"x", end])
    assert status == 413
    assert json.loads(answer)["error"]["message"] == "body: expected at most 8,388,608 bytes, found more"
    assert knock(monkeypatch, CLOSED, chunks=[start, most, most])[0] == 401


@given(
    st.one_of(
        TEXTS,
        st.lists(TEXTS, min_size=1, max_size=9),
        st.lists(st.integers(0, 30521), min_size=1),
        st.lists(st.lists(st.integers(0, 30521), min_size=1), min_size=1, max_size=9),
    ),
    st.sampled_from([None, *DIMS]),
)
def test_what_openai_takes_has_no_fault(asked: Any, dimensions: int | None) -> None:
    request = {"model": "m", "input": asked, "dimensions": dimensions, "user": "someone", "encoding_format": "base64"}
    assert door.find_fault(json.dumps(request).encode(), DIMS) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON, JSON)
def test_other_json_has_a_fault_or_is_texts_or_token_ids(asked: Any, dimensions: Any) -> None:
    fault = door.find_fault(json.dumps({"input": asked, "dimensions": dimensions}).encode(), DIMS)
    inputs = asked if isinstance(asked, list) else [asked]
    assert fault or {type(value) for value in inputs} in ({str}, {int}, {list})
    assert fault or all(value.strip() for value in inputs if isinstance(value, str))
    assert fault or dimensions is None or dimensions in DIMS


@given(st.binary())
def test_no_bytes_break_the_door(body: bytes) -> None:
    assert door.find_fault(body, DIMS)
