"""The commands on a model."""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.commands.asked import config_of, named_of, say
from pipeline.console import LOADING, screen
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.config import Config

NAME_WIDTH = 32


def golden(options: Namespace) -> None:
    """Make the file of reference vectors that engines of a model are checked against when they load."""
    from pipeline.engines import golden_path, make_golden, write_golden

    config = config_of(options)
    path = golden_path(config.model)
    found = make_golden(config)
    write_golden(found, path)
    print(f"{path}: {len(found.vectors)} vectors of {found.model}@{found.revision} by {found.reference}")


def init(options: Namespace) -> None:
    """Print a config for a model, which works as it is; for one that is shipped, the shipped file."""
    from pipeline.model import pinned
    from pipeline.shipped import shipped_configs
    from pipeline.tools import write_config

    shipped = shipped_configs().get(options.model)
    named = None if shipped else named_of(options, options.model)
    if path := shipped or (named and named.shipped):
        if options.set:
            raise UsageError(
                f"init {options.model}: expected no --set for a config that is shipped, {path.name}: edit it"
            )
        print(path.read_text(encoding="utf-8"), end="")
    elif named:
        config = replace(named.config, model=pinned(named.config.model))
        print(write_config(config, named.sources), end="")


def models(options: Namespace) -> None:
    """List the configs that are shipped, and the model of each."""
    from pipeline.config import load_config
    from pipeline.shipped import shipped_configs

    configs = {name: load_config(path) for name, path in shipped_configs().items()}
    found = [
        {
            "config": name,
            "model": config.model.name,
            "revision": config.model.revision,
            "dims": list(config.model.dims),
            "max_tokens": config.model.max_tokens,
            "n_parameters": config.model.n_parameters,
            "licence": config.model.licence,
            "engine": config.engine.kind,
            "gpu": config.modal.gpu,
        }
        for name, config in configs.items()
    ]
    say(options, found, "\n".join(_model_line(*item) for item in configs.items()))


def _model_line(name: str, config: Config) -> str:
    model = config.model
    size = f"{model.n_parameters / 1e6:,.0f}M" if model.n_parameters else "no"
    widths = f"{model.dims[0]}{f' to {model.dims[-1]}' if len(model.dims) > 1 else ''} dims"
    return (
        f"{name:<{NAME_WIDTH}}{model.name}: {size} parameters, {widths}, {model.max_tokens:,} tokens, {model.licence}"
    )


def serve(options: Namespace) -> None:
    """Serve embeddings over HTTP until SIGINT or SIGTERM; raises EngineError when the server ends by itself."""
    from pipeline.model import settle_dtype, this_device
    from pipeline.serve import Server, read_key

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    config = settle_dtype(config_of(options), this_device())
    key = None if options.no_auth else read_key(options.api_key_file, os.environ)
    with Server(config, host=options.host, port=options.port, key=key) as server:
        with screen() as board:
            board.enter(LOADING)
            server.wait_until_ready()
        sizes = ", ".join(map(str, config.model.dims))
        print(f"ready: {config.model.name} at {server.url}/v1, dimensions {sizes}", flush=True)
        server.wait()
