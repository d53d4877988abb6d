"""The HTTP server as a process: started, watched until it answers, and ended with everything it started."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn, Self

from pipeline.config import ENGINES, Config
from pipeline.console import DEBUG_VARIABLE
from pipeline.engines import check_installed, engine_arguments, pooler_arguments, vllm_environment
from pipeline.errors import EngineError, UsageError
from pipeline.model import open_checkpoint
from pipeline.serve import middleware
from pipeline.serve.middleware import KEY_VARIABLE, digest
from pipeline.shipped import SOURCES

PROBE_EVERY_S = 0.25
PROBE_S = 2.0  # that a server may take for its health; while it loads, nobody answers
DRAIN_S = 20  # from SIGTERM, for the answers that are under way
ENGINE_S = 3  # from there, for the engine to end by itself
GRACE_S = DRAIN_S + ENGINE_S + 2.0  # from SIGTERM to SIGKILL
LAST_LINES = 10
LISTENER_VARIABLE = "EMBED_LISTENER"  # read by pipeline.engines.vllm_server
CAUSE = re.compile(r"^\(EngineCore\b.*?((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .+)")


class Server:
    """One server from its start to its end; it dies with the thread that made it.

    What it prints is kept, and goes to stderr once it is ready, or at once under EMBED_DEBUG.
    """

    def __init__(self, config: Config, *, host: str, port: int, key: str | None) -> None:
        """Start it; raises UsageError for a config or an address that it cannot serve, EngineError without a model."""
        if not ENGINES[config.engine.kind].serves_http:
            able = " or ".join(kind for kind, engine in ENGINES.items() if engine.serves_http)
            raise UsageError(f"server: expected engine.kind {able}, found {config.engine.kind}")
        check_installed(config.engine.kind)
        folder = open_checkpoint(config)
        self._config, self._address, self._key = config, (host, port), key
        self._shown = bool(os.environ.get(DEBUG_VARIABLE))
        self._lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
        self._cause = ""  # what the engine said of its end
        with listen(host, port) as listener:
            self._process = subprocess.Popen(
                server_command(config, folder),
                env=server_environment(config, key, os.environ, listener=listener.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=[listener.fileno()],
                process_group=0,  # so that the whole tree can be ended, and Ctrl-C is ours to pass on
            )
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_ready(self) -> None:
        """Return when the server is healthy and has embedded a text; raises EngineError where it ends or is ended."""
        while self._ask("GET", "/health", timeout_s=PROBE_S)[0] != 200:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PROBE_EVERY_S)
                raise self._ended()
        width, asked = self._config.model.dims[0], {"model": self._config.model.name, "input": "ready?"}
        status, body = self._ask("POST", "/v1/embeddings", asked)
        if status != 200 or len(json.loads(body)["data"][0]["embedding"]) != width:
            self.stop()
            raise EngineError(
                f"server: expected an embedding of {width} numbers, found status {status}: {body[:200]!r}"
            )
        self._shown = True

    def wait(self) -> NoReturn:
        """Wait until the server ends by itself, which it never should; raises the EngineError that says how it did."""
        self._process.wait()
        raise self._ended()

    @property
    def url(self) -> str:
        """The server's address as clients write it."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def exit_code(self) -> int:
        """The server's exit code in the shell's convention (128 + signal); 1 if it was 0."""
        code: int = self._process.returncode
        return 128 - code if code < 0 else code or 1

    def stop(self) -> None:
        """End the server and whatever it started."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self._end_group()

    def _ended(self) -> EngineError:
        self._end_group()
        code = self._process.returncode
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        end = next((line for line in reversed(self._lines) if line.startswith("engine: ")), "")
        cause = ": ".join(filter(None, [end, self._cause]))
        said = cause or f"its last lines: {' | '.join(self._lines) or 'none'}"
        return EngineError(f"server: ended {how}; {said}")

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def _follow(self) -> None:
        output: IO[str] = self._process.stdout  # type: ignore[assignment]  # a pipe, as asked for
        with output:
            for line in output:
                if line.strip():
                    self._lines.append(line.strip())
                if found := CAUSE.search(line):
                    self._cause = found[1].strip()
                if self._shown:
                    sys.stderr.write(line)

    def _ask(self, method: str, path: str, body: object = None, timeout_s: float | None = None) -> tuple[int, bytes]:
        """Return status and body of a request to the server; the status is 0 while nobody answers."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        connection = http.client.HTTPConnection(*self._address, timeout=timeout_s)
        with contextlib.closing(connection):
            try:
                connection.request(method, path, json.dumps(body), headers)
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                return 0, b""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; from now on nobody else can. Raises UsageError for an address that is taken."""
    where = f"server: expected an address to listen on, found {host or 'an empty host'} port {port}"
    if not host:
        raise UsageError(f"{where}; 0.0.0.0 is everywhere")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UsageError(f"{where}: {error}") from error


def server_command(config: Config, folder: Path) -> list[str]:
    """Return the command of a server for the model in `folder`, with every argument of the batch engine.

    It holds no secret: a process list shows it.
    """
    arguments = {
        "model": str(folder),
        "served_model_name": config.model.name,
        **engine_arguments(config),
        "pooler_config": pooler_arguments(config),
        "hf_overrides": {"is_matryoshka": True, "matryoshka_dimensions": config.model.dims},
        "allowed_media_domains": "none.invalid",  # no request can name a URL; should one, none is fetched
        "disable_fastapi_docs": True,
        "shutdown_timeout": ENGINE_S,
    }
    return [sys.executable, "-m", "pipeline.engines.vllm_server", *map(_flag, arguments, arguments.values())]


def server_environment(config: Config, key: str | None, base: Mapping[str, str], *, listener: int) -> dict[str, str]:
    """Return `base` without the key and with what the server needs: where it listens, and what it lets in."""
    model = config.model
    settings = middleware.Settings(
        key_sha256=key and digest(key), model=model.name, max_tokens=model.max_tokens, dims=model.dims
    )
    options = {
        "fd": listener,
        "wrapper": f"{middleware.AccessMiddleware.__module__}:{middleware.AccessMiddleware.__qualname__}",
        "http": "pipeline.serve.protocol:LimitedProtocol",
        "ws": "none",
        "access_log": False,
        "log_level": "error",  # at "warning" whatever a stranger sends is a line
        "timeout_graceful_shutdown": DRAIN_S,
    }
    kept = {name: value for name, value in base.items() if name != KEY_VARIABLE}
    sources = [str(SOURCES), *filter(None, [base.get("PYTHONPATH")])]
    ours = {middleware.VARIABLE: settings.to_json(), LISTENER_VARIABLE: json.dumps(options)}
    return kept | vllm_environment() | ours | {"PYTHONPATH": os.pathsep.join(sources)}


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={json.dumps(value) if isinstance(value, dict) else value}"
