"""Connections as a stranger makes them, against uvicorn with our limits, made short, and a small application."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from pipeline.serve import protocol

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


SLOW = threading.Semaphore(0)  # released for each request of `/slow` that has come in


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the size of the body, `/headers` with their names, and `/slow` once the client has left."""
    size_bytes, more = 0, True
    if scope["path"] == "/slow":
        SLOW.release()
    while more or scope["path"] == "/slow":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size_bytes, more = size_bytes + len(message["body"]), message.get("more_body", False)
    names = b" ".join(name for name, _ in scope["headers"])
    body = {"/large": b"x" * (8 << 20), "/headers": names}.get(scope["path"], str(size_bytes).encode())
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Yield the port of a server of eight connections; it has none left in the end."""
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 8)
    options: dict[str, Any] = {
        "http": protocol.LimitedProtocol,
        "ws": "none",
        "lifespan": "off",
        "log_level": "critical",
    }
    server = uvicorn.Server(
        uvicorn.Config(application, loop="asyncio", timeout_keep_alive=1, timeout_graceful_shutdown=1, **options)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=[[listener]])
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
    assert not server.server_state.connections
    assert not protocol.LimitedProtocol._idle


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every time short."""
    for name, value in {"HEAD_S": 0.4, "BODY_S": 0.8, "WRITE_S": 0.4}.items():
        monkeypatch.setattr(protocol, name, value)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def heard(client: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    found = b""
    while True:
        try:
            piece = client.recv(1 << 16)
        except ConnectionResetError:
            return found
        if not piece:
            return found
        found += piece


def answer(client: socket.socket, end: bytes) -> bytes:
    """Return what comes until this end of an answer."""
    found = b""
    while not found.endswith(end):
        found += client.recv(1 << 16) or b"closed" + end
    assert b"closed" not in found, found
    return found


def status_of(client: socket.socket, *pieces: bytes) -> int:
    """Return the status of the answer to what is sent, 0 when the server just closes."""
    for piece in pieces:
        try:
            client.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            break
    found = heard(client)
    return int(found.split()[1]) if found else 0


def test_a_connection_serves_several_requests_and_bodies_in_pieces(port: int) -> None:
    with connect(port) as client:
        for _ in range(3):
            client.sendall(POST + b"Content-Length: 3\r\n\r\n")
            client.sendall(b"abc")
            assert answer(client, b"\r\n\r\n3")
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n")
        assert answer(client, b"\r\n\r\n5")
        client.sendall(POST + b"Content-Length: 1048576\r\n\r\n" + b"x" * 1048576)
        assert answer(client, b"\r\n\r\n1048576")


def test_a_trailer_is_no_header(port: int) -> None:
    trailer = b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    for ways in ([trailer], [trailer[:5], trailer[5:]]):
        with connect(port) as client:
            head = POST.replace(b" / ", b" /headers ") + b"Transfer-Encoding: chunked\r\n\r\n"
            client.sendall(head + ways[0])
            for piece in ways[1:]:
                client.sendall(piece)
            assert answer(client, b"transfer-encoding").endswith(b"\r\n\r\nhost transfer-encoding")


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param([b"GET / HTTP/1.1\r\nX: ", *[b"a" * 65536] * 64], 431, id="a header without end"),
        pytest.param([b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"], 431, id="a long path"),
        pytest.param([b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n"], 431, id="300 headers"),
        pytest.param([b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"], 431, id="a header in one piece"),
        pytest.param(
            [POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", *[b"a" * 65536] * 64],
            431,
            id="a trailer without end",
        ),
        pytest.param(
            [POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[b"a: b\r\n" * 9999] * 64], 431, id="many trailers"
        ),
        pytest.param([POST + b"Transfer-Encoding: chunked\r\n\r\n1;", *[b"a" * 65536] * 64], 431, id="an extension"),
        pytest.param([GET * 100], 431, id="a hundred requests at once"),
        pytest.param([b"\x16\x03\x01 hello\r\n\r\n"], 400, id="TLS"),
    ],
)
def test_what_is_too_much_ends_the_connection(port: int, pieces: list[bytes], status: int) -> None:
    with connect(port) as client:
        assert status_of(client, *pieces) == status
    with connect(port) as client:
        client.sendall(GET)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "begin", [b"", b"GET / HT", GET[:-2], POST + b"Content-Length: 9\r\n\r\n", POST + b"Content-Length: 9\r\n\r\nabc"]
)
def test_who_does_not_go_on_is_let_go_with_a_408(port: int, begin: bytes) -> None:
    with connect(port) as client:
        assert status_of(client, begin) == 408


@pytest.mark.usefixtures("hasty")
def test_a_byte_now_and_then_does_not_keep_a_connection(port: int) -> None:
    with connect(port) as client:
        client.settimeout(0.05)
        for byte in (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1000)[:200]:
            client.sendall(bytes([byte]))
            try:
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 408")
                return
            except TimeoutError:
                continue
    raise AssertionError("the server took 200 bytes in 10 s")


@pytest.mark.usefixtures("hasty")
def test_who_reads_no_answer_is_let_go(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(1)
        with connect(port) as other:
            assert status_of(other) == 408  # as long as the other one may take
        with connect(port) as other:
            assert status_of(other) == 408
        assert len(heard(client)) < 8 << 20


def test_the_connection_that_asks_nothing_for_longest_makes_room(port: int) -> None:
    slow = [connect(port) for _ in range(6)]
    for client in slow[:3]:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert SLOW.acquire(timeout=10)
    for client in slow[3:]:
        client.sendall(POST + b"Content-Length: 9\r\n\r\nabc")
    fast = [connect(port) for _ in range(5)]
    for client in fast:
        client.sendall(GET)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert [status_of(client) for client in slow[3:]] == [503] * 3
    for client in slow + fast:
        client.close()


def test_when_all_are_being_answered_another_one_is_turned_away_until_one_leaves(port: int) -> None:
    busy = [connect(port) for _ in range(8)]
    for client in busy:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert SLOW.acquire(timeout=10)
    with connect(port) as another:
        assert status_of(another, GET) == 503
    busy.pop().close()
    status = 503
    while status == 503:  # until the server has seen that one left
        with connect(port) as another:
            status = status_of(another, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert status == 200
    for client in busy:
        client.close()
