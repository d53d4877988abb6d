"""The answer of a server that did not start, to every request for as long as its process lives."""

from __future__ import annotations

import contextlib
import threading

from pipeline.serve.middleware import Message, Receive, Send, admits, digest, refuse
from pipeline.serve.server import listen

WITHHELD = "server: expected one that has started, found none; its log says why"


def refuse_all(reason: str, *, host: str, port: int, key: str | None) -> None:
    """Answer 503 from now on, on a thread: with the reason to one who has the key, to everyone where there is no key.

    Raises UsageError for an address that is taken.
    """
    import uvicorn

    listener = listen(host, port)

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        text = reason if admits(scope, key and digest(key)) else WITHHELD
        with contextlib.suppress(ConnectionResetError):  # nobody is there to be answered
            await refuse(receive, send, 503, text)

    protocol = "pipeline.serve.protocol:LimitedProtocol"
    config = uvicorn.Config(answer, http=protocol, ws="none", lifespan="off", access_log=False, log_level="error")
    run = uvicorn.Server(config).run
    threading.Thread(target=run, kwargs={"sockets": [listener]}, name="refusal", daemon=True).start()
