"""vLLM's own HTTP server, in processes that do not outlive the one that started them.

vLLM starts its engine process by running this module once more, so the code at the top runs in both.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
VARIABLE = "EMBED_LISTENER"

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve as the arguments of the process say; they are those of `vllm serve`.

    The variable EMBED_LISTENER is a JSON object: `fd`, a socket that listens; `wrapper`, the name of what the ASGI
    application is wrapped in; and arguments of `uvicorn.Config`.
    """
    import uvloop
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.logger import configure_logging_from_args
    from vllm.platforms import current_platform
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.utils.system_utils import set_ulimit

    if current_platform.is_cpu():
        # As many threads as in a batch: vLLM would keep a core for the requests, which need but a part of one.
        os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    untyped: tuple[Callable[..., Any], ...] = (cli_env_setup, FlexibleArgumentParser)
    set_up, parser = untyped
    set_up()
    arguments = make_arg_parser(parser()).parse_args()
    configure_logging_from_args(arguments)
    validate_parsed_serve_args(arguments)
    set_ulimit()
    uvloop.run(_serve(arguments, json.loads(os.environ[VARIABLE])))


async def _serve(arguments: Namespace, options: Mapping[str, Any]) -> None:
    """Serve until SIGINT or SIGTERM, and answer what is under way; exit with a line when the engine has died."""
    from uvicorn import Config
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.launcher import NoSignalServer, watchdog_loop
    from vllm.entrypoints.pooling.embed import protocol

    # vLLM would try every list of token ids as a conversation first: 0.02 ms for each id, in which no other is served.
    vars(protocol).update(EmbeddingRequest=protocol.EmbeddingCompletionRequest)
    given = dict(options)
    listener = socket.socket(fileno=given.pop("fd"))
    listener.set_inheritable(False)
    wrapper = resolve_name(given.pop("wrapper"))
    async with build_async_engine_client(arguments) as engine:
        tasks = await engine.get_supported_tasks()
        app = build_app(arguments, tasks, engine.model_config)
        await init_app_state(engine, app.state, arguments, tasks)
        server = NoSignalServer(Config(wrapper(app), **given))
        app.state.server = server  # vLLM ends it when a request finds the engine dead
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)
        watchdog = asyncio.create_task(watchdog_loop(server, engine))
        await server.serve(sockets=[listener])
        watchdog.cancel()
        if engine.errored:
            sys.exit(_cause(engine))


def _cause(engine: Any) -> str:
    """Return why an engine is dead, as far as its processes show it."""
    manager = engine.engine_core.resources.engine_manager
    codes = set(manager.finished_procs().values()) if manager else set()
    ends = [f"by signal {-code}" if code < 0 else f"with exit code {code}" for code in sorted(codes)]
    return f"engine: ended {' and '.join(ends) or 'without an exit code'}"


if __name__ == "__main__":
    main()
