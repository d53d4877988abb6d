"""Clients who mean no good, all at once: what they send, and what the server's others and its memory see of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from tests.support.http_server import tree

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
BODILESS = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n"


def memory_bytes(pid: int) -> int:
    """Return the resident memory of all processes below `pid`."""
    total = 0
    for below in tree(pid):
        with contextlib.suppress(OSError):  # it ended meanwhile
            total += int((Path("/proc") / str(below) / "statm").read_text().split()[1]) * PAGE_BYTES
    return total


async def endless_header(port: int, size_bytes: int) -> None:
    """Send a header that has no end, anew whenever the server has enough of it."""
    left = size_bytes
    while left > 0:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX-A: ")
        with contextlib.suppress(ConnectionError):
            while left > 0 and not writer.is_closing():
                writer.write(b"a" * 65536)
                left -= 65536
                await writer.drain()
        writer.close()


async def slow(port: int, number: int) -> None:
    """Send a head a byte at a time, or promise a body that never comes; begin again when the server lets go."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nX-A: " if number % 4 == 0 else BODILESS)
            while not writer.is_closing() and not reader.at_eof():
                await asyncio.sleep(1)
                if number % 4 == 0:
                    writer.write(b"a")
                    await writer.drain()
        except ConnectionError:
            continue
        finally:
            writer.close()


async def leaving(session: aiohttp.ClientSession, url: str, request: object) -> None:
    """Ask and leave before there can be an answer."""
    with contextlib.suppress(asyncio.TimeoutError, aiohttp.ClientError):
        await session.post(url, json=request, timeout=aiohttp.ClientTimeout(total=0.01))


async def too_many_ids(session: aiohttp.ClientSession, url: str, model: str) -> int:
    """Send eight megabytes of token ids and return the status of the answer."""
    body = json.dumps({"model": model}).encode()[:-1] + b', "input": [' + b"1," * 4_000_000 + b"1]}"
    headers = {"Content-Type": "application/json"}
    async with session.post(url, data=io.BytesIO(body), headers=headers) as answer:
        return answer.status


@contextlib.contextmanager
def watching(pid: int, port: int) -> Iterator[tuple[list[float], list[int]]]:
    """Yield the seconds that `/health` took, and the memory below `pid`, again and again until the end."""
    took_s: list[float] = []
    held_bytes: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/health")
            answer = connection.getresponse()
            took_s.append(time.perf_counter() - began if answer.status == 200 else float("inf"))
            connection.close()
            held_bytes.append(memory_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield took_s, held_bytes
    finally:
        done.set()
        watcher.join()
