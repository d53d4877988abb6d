"""The middleware of the HTTP server: the key, the paths, the size of a request, and what is not worth an engine's time.

vLLM asks for its key below some paths only, serves many more of them, and embeds texts that a run rejects. This
middleware (ASGI 3) is outside of everything that vLLM serves.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipeline.console import note
from pipeline.errors import UsageError
from pipeline.serve.request import MAX_BODY_BYTES, Fault, settle

VARIABLE = "EMBED_DOOR"
KEY_VARIABLE = "VLLM_API_KEY"
LEAST_KEY_LENGTH = 12
PATIENCE_BYTES = 64 << 20  # of a body that is not taken, before its connection is cut
MAX_HELD_BYTES = 128 << 20  # of the bodies of all requests under way
METHODS = {"/v1/embeddings": "POST", "/v1/models": "GET", "/health": "GET", "/metrics": "GET"}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the middleware knows: the digest of the key, None to serve everyone, and the model that is served."""

    key_sha256: str | None
    model: str
    max_tokens: int
    dims: tuple[int, ...]

    def to_json(self) -> str:
        """Return the settings as the variable EMBED_DOOR holds them."""
        return json.dumps(asdict(self))


class AccessMiddleware:
    """Middleware that lets in the paths of METHODS, who has the key, and of a request what it has checked.

    It answers all else for itself: 401, 404, 405, 413, 400 or 503 with an error as OpenAI words it.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._settings = msgspec.json.decode(os.environ[VARIABLE], type=Settings)
        self._created = int(time.time())
        self._held_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection; `/health` is open to all."""
        if scope["type"] == "lifespan" or (scope["path"], scope.get("method")) == ("/health", "GET"):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # nothing here speaks it
        else:
            with contextlib.suppress(ConnectionResetError):  # nobody is there to be answered
                await self._serve(scope, receive, send)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        path, method = scope["path"], METHODS.get(scope["path"])
        if not admits(scope, self._settings.key_sha256):
            text = "key: expected `Authorization: Bearer` with the key of this server, once"
            await refuse(receive, send, 401, text, (b"www-authenticate", b"Bearer"))
        elif method is None:
            await refuse(receive, send, 404, f"path: expected one of {', '.join(METHODS)}, found another one")
        elif method != scope["method"]:
            text = f"method: expected {method} for {path}, found {scope['method']}"
            await refuse(receive, send, 405, text, (b"allow", method.encode()))
        elif path == "/v1/embeddings":
            await self._embed(scope, receive, send)
        elif path == "/v1/models":
            await _answer(send, 200, self._models())
        else:
            await self._app(scope, receive, send)

    async def _embed(self, scope: Message, receive: Receive, send: Send) -> None:
        """Read a request while there is room for it, and let in what is right with it."""
        taken, found_bytes = bytearray(), 0
        try:
            async for piece in _pieces(receive):
                found_bytes += len(piece)
                if found_bytes <= MAX_BODY_BYTES and self._held_bytes + len(piece) <= MAX_HELD_BYTES:
                    taken += piece
                    self._held_bytes += len(piece)
            if found_bytes > MAX_BODY_BYTES:
                await _answer(send, 413, _fault(413, f"body: expected at most {MAX_BODY_BYTES:,} bytes, found more"))
            elif len(taken) < found_bytes:
                await _answer(send, 503, _fault(503, "server: expected room for this request, found none; try again"))
            else:
                await self._app(*self._settled(scope, bytes(taken), receive), send)
        except Fault as fault:
            await _answer(send, 400, _fault(400, str(fault)))
        finally:
            self._held_bytes -= len(taken)

    def _settled(self, scope: Message, body: bytes, receive: Receive) -> tuple[Message, Receive]:
        """Return scope and body of a request without what was not checked; raises Fault."""
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        if [kind.partition(b";")[0].strip().lower() for kind in kinds] != [b"application/json"]:
            raise Fault("content-type: expected application/json, found something else")
        body = settle(body, dims=self._settings.dims, max_tokens=self._settings.max_tokens)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        return {**scope, "headers": headers, "query_string": b""}, replay

    def _models(self) -> dict[str, Any]:
        """Return the models as OpenAI lists them, and not where their files are."""
        model = {"id": self._settings.model, "object": "model", "created": self._created, "owned_by": "embed-corpus"}
        return {"object": "list", "data": [model | {"max_model_len": self._settings.max_tokens}]}


def admits(scope: Message, key_sha256: str | None) -> bool:
    """Return whether a request has the key with this digest, once; None admits everyone."""
    if key_sha256 is None:
        return True
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, key = b"".join(found[:1]).decode("latin-1").partition(" ")
    known = hmac.compare_digest(digest(key), key_sha256)
    return known and len(found) == 1 and scheme.lower() == "bearer"


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a body until PATIENCE_BYTES of it have come; raises ConnectionResetError when its client has gone."""
    size_bytes, more = 0, True
    while more and size_bytes <= PATIENCE_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        size_bytes += len(message.get("body", b""))
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def refuse(receive: Receive, send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer once the body has passed by: who is still sending hears no answer."""
    async for _ in _pieces(receive):
        pass
    await _answer(send, status, _fault(status, text), *headers)


def _fault(status: int, text: str) -> dict[str, Any]:
    kind = {401: "authentication_error", 503: "server_error"}.get(status, "invalid_request_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": status}}


async def _answer(send: Send, status: int, content: dict[str, Any], *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(content).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


def read_key(file: Path | None, environment: Mapping[str, str]) -> str:
    """Return the key that a file holds, or else the variable VLLM_API_KEY; say so when others may read the file.

    Raises UsageError, which does not show it, when there is none, it is short, or a header cannot hold it.
    """
    where = f"key file {file}" if file else f"variable {KEY_VARIABLE}"
    try:
        key = (file.read_text() if file else environment.get(KEY_VARIABLE, "")).strip()
        others_read = bool(file and file.stat().st_mode & 0o077)
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
    if len(key) < LEAST_KEY_LENGTH:
        raise UsageError(f"{where}: expected a key of {LEAST_KEY_LENGTH} characters or more, found {len(key)}")
    if others_read:
        note(f"{where}: others on this machine may read it; `chmod 600` it")
    return key


def digest(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
