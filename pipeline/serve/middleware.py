"""The middleware of the HTTP server: the key, the size of a request, and what is not worth an engine's time.

vLLM asks for its key below some paths only, and embeds texts that a run rejects. It loads this middleware (ASGI 3) by
name, outside of everything else that it serves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import UsageError

VARIABLE = "EMBED_DOOR"
KEY_VARIABLE = "VLLM_API_KEY"
MAX_BODY_BYTES = 8 << 20
PATIENCE_BYTES = 64 << 20  # of a body that is not taken, before its connection is cut
MAX_INPUTS = 2048  # of one request, as at OpenAI

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the middleware knows: the digest of the key, None to serve everyone, and the sizes of a vector."""

    key_sha256: str | None
    dims: tuple[int, ...]

    def to_json(self) -> str:
        """Return the settings as the variable EMBED_DOOR holds them."""
        return json.dumps(asdict(self))


class AccessMiddleware:
    """Middleware that answers for itself what must not come in: 401, 413 or 400 with an error as OpenAI words it."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._settings = msgspec.json.decode(os.environ[VARIABLE], type=Settings)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection; `/health` is open to all."""
        if scope["type"] == "http" and scope["path"] != "/health":
            admitted = self._admits(scope)
            body = await _read(receive, MAX_BODY_BYTES if admitted else 0)
            if not admitted:
                await _answer(send, 401, "key: expected `Authorization: Bearer` with the key of this server")
                return
            if body is None:
                await _answer(send, 413, f"body: expected at most {MAX_BODY_BYTES:,} bytes, found more")
                return
            if scope["path"] == "/v1/embeddings" and (fault := find_fault(body, self._settings.dims)):
                await _answer(send, 400, fault)
                return
            receive = _again(body, receive)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # nothing here speaks it
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Message) -> bool:
        if self._settings.key_sha256 is None:
            return True
        scheme, _, key = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(digest(key), self._settings.key_sha256)


class Asked(msgspec.Struct):
    """What of a request for embeddings is checked here; the rest is vLLM's to check."""

    input: str | list[str | int | list[int]]
    dimensions: int | None = None


def find_fault(body: bytes, dims: tuple[int, ...]) -> str | None:
    """Return what is wrong with a request for embeddings, None when nothing is that can be seen without a tokenizer."""
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"body: expected JSON whose `input` is a text, a list of texts, or lists of token ids, found: {error}"
    if asked.dimensions is not None and asked.dimensions not in dims:
        return f"dimensions: expected one of {', '.join(map(str, dims))}, found {asked.dimensions}"
    inputs = [asked.input] if isinstance(asked.input, str) else asked.input
    kinds = {type(value) for value in inputs}
    if len(kinds) != 1:
        return f"input: expected texts alone or token ids alone, found {'both' if kinds else 'an empty list'}"
    if kinds == {int}:
        return None  # the token ids of one text
    if len(inputs) > MAX_INPUTS:
        return f"input: expected at most {MAX_INPUTS:,} texts, found {len(inputs):,}"
    for at, value in enumerate(inputs):
        if isinstance(value, str) and not value.strip():
            return f"input[{at}]: expected a text, found nothing but white space"
        if not value:
            return f"input[{at}]: expected token ids, found none"
    return None


async def _read(receive: Receive, most_bytes: int) -> bytes | None:
    """Return a body, or None for a larger one, which is let pass by: who is still sending hears no answer."""
    body, size_bytes, more = bytearray(), 0, True
    while more and size_bytes <= PATIENCE_BYTES:
        message = await receive()
        size_bytes += len(message.get("body", b""))
        if size_bytes <= most_bytes:
            body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body) if size_bytes <= most_bytes else None


def _again(body: bytes, receive: Receive) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _answer(send: Send, status: int, text: str) -> None:
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    body = json.dumps({"error": {"message": text, "type": kind, "param": None, "code": status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def read_key(file: Path | None, environment: Mapping[str, str]) -> str:
    """Return the key that a file holds, or else the variable VLLM_API_KEY.

    Raises UsageError, which does not show it, when there is none or a header cannot hold it.
    """
    where = f"key file {file}" if file else f"variable {KEY_VARIABLE}"
    try:
        key = (file.read_text() if file else environment.get(KEY_VARIABLE, "")).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are no text"
        raise UsageError(f"{where}: expected a readable file with the key, found {reason}") from None
    if not key:
        raise UsageError(
            f"{where}: expected a key, found none; give one with --api-key-file or say --no-auth, "
            "and on Modal deploy with EMBED_HTTP=1"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(f"{where}: expected one line of printable ASCII without spaces, found something else")
    return key


def digest(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
