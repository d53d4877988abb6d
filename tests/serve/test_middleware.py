"""The door of the server, without a server: what it lets through and what it says to the rest."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.serve import middleware as door
from pipeline.serve.middleware import digest
from pipeline.serve.request import MAX_BODY_BYTES

OPEN = door.Settings(key_sha256=None, model="m", max_tokens=256, dims=(384, 128))
CLOSED = door.Settings(key_sha256=digest("right"), model="m", max_tokens=256, dims=(384, 128))
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
    chunks: Sequence[bytes] = (b'{"input":"x"}',),
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[int, bytes]:
    """Return the status and the body that a client sees; the app behind the door answers 200 with what it was sent."""
    monkeypatch.setenv(door.VARIABLE, settings.to_json())
    sent_headers = [*headers, (b"content-type", b"application/json; charset=utf-8")]
    if key is not None:
        sent_headers.append((b"authorization", f"Bearer {key}".encode()))
    found = ask({"type": "http", "path": path, "method": method, "headers": sent_headers}, chunks)
    assert found is not None
    return found


def ask(scope: dict[str, Any], chunks: Sequence[bytes | None]) -> tuple[int, bytes] | None:
    """Return status and body of the answer to a request, None when there was none; a chunk of None: the client left."""
    sent: list[dict[str, Any]] = []
    arriving = [
        {"type": "http.disconnect"} if chunk is None else {"type": "http.request", "body": chunk, "more_body": True}
        for chunk in chunks
    ]
    arriving.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return arriving.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def behind(_scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", scope.get("method") == "POST"
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})

    asyncio.run(door.AccessMiddleware(behind)(scope, receive, send))
    if not sent:
        return None
    return sent[0]["code" if scope["type"] == "websocket" else "status"], sent[-1].get("body", b"")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_every_path_but_health_wants_the_key(monkeypatch: pytest.MonkeyPatch, path: str, method: str) -> None:
    for key in (None, "", "wrong", "right ", "RIGHT", digest("right")):
        assert knock(monkeypatch, CLOSED, path, method=method, key=key)[0] == 401
    meant = {**door.METHODS, "/health": None}.get(path)  # the last is asked for below
    assert knock(monkeypatch, CLOSED, path, method=method, key="right")[0] == (
        200 if method == meant else 405 if meant else 404
    )


@pytest.mark.parametrize(
    "value",
    ["Basic right", "Token right", "bearerright", "right", "Bearer, right", "Bearer  right", " right", "Bearer\tright"],
)
def test_a_key_is_one_behind_bearer_alone(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert knock(monkeypatch, CLOSED, headers=[(b"authorization", value.encode())])[0] == 401
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert knock(monkeypatch, CLOSED, headers=[(b"authorization", f"{scheme} right".encode())])[0] == 200


def test_of_a_key_all_of_its_digest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "digest", lambda key: "0" * 63 + ("1" if key == "right" else "2"))
    almost = door.Settings(key_sha256="0" * 63 + "1", model="m", max_tokens=256, dims=(384,))
    assert [knock(monkeypatch, almost, key=key)[0] for key in ("right", "wrong")] == [200, 401]


@pytest.mark.parametrize(
    ("settings", "path", "status", "most_bytes"),
    [
        pytest.param(CLOSED, "/v1/embeddings", 401, 3 << 20, id="a stranger's"),
        pytest.param(OPEN, "/other", 404, 3 << 20, id="for no path"),
        pytest.param(OPEN, "/v1/embeddings", 413, 2 * MAX_BODY_BYTES, id="too large"),
    ],
)
def test_a_body_that_is_not_taken_is_not_held(
    monkeypatch: pytest.MonkeyPatch, settings: door.Settings, path: str, status: int, most_bytes: int
) -> None:
    monkeypatch.setenv(door.VARIABLE, settings.to_json())
    left, sent = [*range(40)], []

    async def receive() -> Any:
        left.pop()
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def behind(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("nobody comes in")

    tracemalloc.start()
    asyncio.run(
        door.AccessMiddleware(behind)({"type": "http", "path": path, "method": "POST", "headers": []}, receive, send)
    )
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (sent[0]["status"], left) == (status, [])
    assert peak_bytes < most_bytes


def test_nothing_of_a_request_but_its_checked_body_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(door.VARIABLE, OPEN.to_json())
    found: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"input":"x"}'}

    async def send(_: Any) -> None: ...

    async def behind(scope: Any, _receive: Any, _send: Any) -> None:
        found.append(scope)

    kept = [(b"content-type", b"application/json"), (b"content-length", b"13")]
    headers = [*kept, (b"x-data-parallel-rank", b"9"), (b"x-request-id", b"a")]
    scope = {"type": "http", "path": "/v1/embeddings", "method": "POST", "headers": headers, "query_string": b"a=1"}
    asyncio.run(door.AccessMiddleware(behind)(scope, receive, send))
    assert [(each["headers"], each["query_string"]) for each in found] == [(kept, b"")]


def test_a_body_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "PATIENCE_BYTES", 5000)
    read = 0
    monkeypatch.setenv(door.VARIABLE, CLOSED.to_json())

    async def receive() -> Any:
        nonlocal read
        read += 1000
        assert read < 20_000
        return {"type": "http.request", "body": bytes(1000), "more_body": True}

    async def send(_: Any) -> None: ...

    async def behind(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("nobody has a key")

    scope = {"type": "http", "path": "/v1/embeddings", "method": "POST", "headers": []}
    asyncio.run(door.AccessMiddleware(behind)(scope, receive, send))
    assert read == 6000


@pytest.mark.parametrize("order", [("right", "wrong"), ("wrong", "right"), ("right", "right")])
def test_of_two_keys_none_counts(monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]) -> None:
    first = [(b"authorization", f"Bearer {order[0]}".encode())]
    assert knock(monkeypatch, CLOSED, key=order[1], headers=first)[0] == 401


@pytest.mark.parametrize("kinds", [["text/plain"], [], ["application/json", "text/plain"], ["application/jsonx"]])
def test_a_body_that_does_not_say_it_is_json_is_refused(monkeypatch: pytest.MonkeyPatch, kinds: list[str]) -> None:
    sent = [(b"content-type", kind.encode()) for kind in kinds]
    monkeypatch.setenv(door.VARIABLE, OPEN.to_json())
    scope = {"type": "http", "path": "/v1/embeddings", "method": "POST", "headers": sent}
    found = ask(scope, [b'{"input":"x"}'])
    assert found is not None
    assert found[0] == 400


def test_the_models_are_listed_without_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    status, body = knock(monkeypatch, CLOSED, "/v1/models", method="GET", key="right")
    [model] = json.loads(body)["data"]
    assert (status, model["id"], model["max_model_len"]) == (200, "m", 256)
    assert model.keys() == {"id", "object", "created", "owned_by", "max_model_len"}


def test_health_is_open_and_a_websocket_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert knock(monkeypatch, CLOSED, "/health", method="GET")[0] == 200
    assert ask({"type": "websocket", "path": "/v1/embeddings", "headers": []}, []) == (1008, b"")


def test_a_body_goes_through_and_only_so_large(monkeypatch: pytest.MonkeyPatch) -> None:
    start, end = b'{"input":"', b'"}'
    most = b"x" * (MAX_BODY_BYTES - len(start) - len(end))
    assert knock(monkeypatch, OPEN, chunks=[start, most, end]) == (200, start + most + end)
    status, answer = knock(monkeypatch, OPEN, chunks=[start, most, b"x", end])
    assert status == 413
    assert json.loads(answer)["error"]["message"] == "body: expected at most 8,388,608 bytes, found more"
    assert knock(monkeypatch, CLOSED, chunks=[start, most, most])[0] == 401


def test_what_was_not_checked_does_not_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = b'{"input": [1, 2], "user": "someone", "input": "x"}'
    assert knock(monkeypatch, OPEN, chunks=[twice], headers=[(b"x-data-parallel-rank", b"9")]) == (
        200,
        b'{"input":"x"}',
    )
    status, answer = knock(monkeypatch, OPEN, chunks=[b'{"input": "x", "messages": []}'])
    assert (status, json.loads(answer)["error"]["type"]) == (400, "invalid_request_error")


def test_who_leaves_in_the_middle_of_a_body_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(door.VARIABLE, OPEN.to_json())
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "path": "/v1/embeddings", "method": "POST", "headers": headers}
    assert ask(scope, [b'{"input":"x"}', None]) is None


def test_bodies_under_way_have_a_room_that_is_free_again_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(door.VARIABLE, OPEN.to_json())
    monkeypatch.setattr(door, "MAX_HELD_BYTES", 3000)
    large = b'{"input":"' + b"x" * 1000 + b'"}'
    statuses = asyncio.run(_crowd([large] * 5, [b'{"input":"x"}'] * 3, [large] * 2))
    assert statuses == ([200, 200, 503, 503, 503], [200, 200, 200], [200, 200])


async def _crowd(*waves: list[bytes]) -> tuple[list[int], ...]:
    """Send requests at once, wave after wave, to one door whose app answers when all of a wave were read."""
    found, ready = [], asyncio.Event()

    async def behind(_scope: Any, _receive: Any, send: Any) -> None:
        await ready.wait()
        await send({"type": "http.response.start", "status": 200})

    async def ask(middleware: Any, body: bytes) -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "path": "/v1/embeddings", "method": "POST", "headers": headers}
        await middleware(scope, receive, send)
        status: int = sent[0]["status"]
        return status

    middleware = door.AccessMiddleware(behind)
    for wave in waves:
        ready.clear()
        asked = [asyncio.create_task(ask(middleware, body)) for body in wave]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
        ready.set()
        found.append(list(await asyncio.gather(*asked)))
    return tuple(found)
