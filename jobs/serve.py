"""The HTTP server of a container: it serves, or says to every client why it does not."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from pipeline.config import Config
from pipeline.console import note
from pipeline.errors import EngineError
from pipeline.serve import Server, read_key, refuse_all


def serve(open_config: Callable[[], Config], port: int) -> None:
    """Return once something answers on `port`: the server, which ends the container when it ends, or a refusal.

    What keeps the server from its start is not raised: Modal starts a container that fails to start again for ever. It
    is the answer to every request until the container has idled out; the next one tries anew.
    """
    host, key = "0.0.0.0", None
    try:
        key = read_key(None, os.environ)
        server = Server(open_config(), host=host, port=port, key=key)
        server.wait_until_ready()
    except Exception as error:  # noqa: BLE001  whatever it is, it is what clients get
        reason = str(error) or type(error).__name__
        note(f"the server did not start: {reason}")
        refuse_all(reason, host=host, port=port, key=key)
        return
    threading.Thread(target=_die_with, args=[server], daemon=True).start()


def _die_with(server: Server) -> None:
    try:
        server.wait()
    except EngineError as error:
        print(error, file=sys.stderr, flush=True)
    os._exit(server.exit_code)
