"""uvicorn's HTTP/1.1 with limits on what a client may send, and on how long it may keep a connection waiting.

uvicorn's own limits are of its slower parser alone, and it never ends a connection that has not yet asked anything.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10  # of a request line and its headers; vLLM's embeddings need no more than a key
MAX_HEADERS = 256
MAX_QUEUED = 16  # requests of one connection that wait for the answer to an earlier one
MAX_CONNECTIONS = 1024
HEAD_S = 10.0  # from a connection, or the first byte of a later request, to the end of the head
BODY_S = 60.0  # from there to the end of the body
WRITE_S = 60.0  # that an answer may wait for its reader


class _Refused(Exception):
    """Raised in a callback of the parser, which ends the connection."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection; at MAX_CONNECTIONS the one that has been without a whole request for longest makes room."""

    _idle: ClassVar[dict[LimitedProtocol, None]] = {}  # nothing of theirs is being answered; oldest first
    _reading: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _in_head = False
    _idle_bytes = 0  # since the request last got further: to the end of its head, or on in its body
    _status = 400

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and for it close another; it gets 503 itself when all others are being answered."""
        super().connection_made(transport)
        self._idle[self] = None
        self._expect(HEAD_S)
        if len(self.connections) > MAX_CONNECTIONS:
            next(iter(self._idle))._end(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._idle.pop(self, None)
        self._expect(None)
        super().connection_lost(exc)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is more than a head may be, or than what surrounds the pieces of a body."""
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > MAX_HEAD_BYTES:
            self._end(431)

    def on_message_begin(self) -> None:
        """Start the time of a head; that of the first one runs since the connection was made."""
        super().on_message_begin()
        self._in_head, self._idle_bytes = True, 0
        if self._reading is None:
            self._expect(HEAD_S)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, but not a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let a request in, and start the time of its body."""
        self._in_head, self._idle_bytes = False, 0
        size_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS or len(self.pipeline) >= MAX_QUEUED:
            self._status = 431
            raise _Refused
        self._expect(BODY_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take a request as whole."""
        self._idle_bytes = 0
        self._expect(None)
        if not self.cycle.response_complete:
            self._idle.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for another request, or for the client to read the answer to its last one."""
        super().on_response_complete()
        if self.transport.is_closing():
            self.pause_writing()
        elif self.cycle.response_complete:
            self._idle[self] = None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has asked nothing more."""
        super().timeout_keep_alive_handler()
        self.pause_writing()

    def send_400_response(self, msg: str) -> None:
        """Close a connection whose bytes are no request."""
        self._end(self._status)

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(WRITE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def _expect(self, seconds: float | None) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = None if seconds is None else self.loop.call_later(seconds, self._end, 408)

    def _end(self, status: int) -> None:
        """Close the connection, with a status where an answer would be next."""
        self._idle.pop(self, None)
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # this client does not read
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
        self.pause_writing()
