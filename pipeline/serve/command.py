"""How the HTTP server is started: its command line and its environment, from the config of the batch engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import REPOSITORY, Config
from pipeline.engines import engine_arguments, pooler_arguments, vllm_environment
from pipeline.serve import middleware
from pipeline.serve.key import KEY_VARIABLE, digest


def server_command(config: Config, folder: Path, *, host: str, port: int) -> list[str]:
    """Return the command of a server for the model in `folder`, with every argument of the batch engine.

    It holds no secret: a process list shows it.
    """
    arguments = {
        "model": str(folder),
        "served_model_name": config.model.name,
        **engine_arguments(config),
        "pooler_config": pooler_arguments(config),
        "hf_overrides": {"is_matryoshka": True, "matryoshka_dimensions": config.model.dims},
        "host": host,
        "port": port,
        "middleware": f"{middleware.AccessMiddleware.__module__}.{middleware.AccessMiddleware.__qualname__}",
        "disable_uvicorn_access_log": True,
        "uvicorn_log_level": "warning",
    }
    return [sys.executable, "-m", "pipeline.engines.vllm_server", *map(_flag, arguments, arguments.values())]


def server_environment(config: Config, key: str | None, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without the key and with what the server needs, among it whom its middleware lets in."""
    settings = middleware.Settings(key_sha256=key and digest(key), dims=config.model.dims)
    kept = {name: value for name, value in base.items() if name != KEY_VARIABLE}
    sources = [str(REPOSITORY), *filter(None, [base.get("PYTHONPATH")])]
    return kept | vllm_environment() | {middleware.VARIABLE: settings.to_json(), "PYTHONPATH": os.pathsep.join(sources)}


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={json.dumps(value) if isinstance(value, dict) else value}"
