"""The commands on a model."""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace

from pipeline.commands.asked import config_of
from pipeline.console import LOADING, screen


def golden(options: Namespace) -> None:
    """Make the file of reference vectors that engines of a model are checked against when they load."""
    from pipeline.engines import golden_path, make_golden, write_golden

    config = config_of(options)
    path = golden_path(config.model)
    found = make_golden(config)
    write_golden(found, path)
    print(f"{path}: {len(found.vectors)} vectors of {found.model}@{found.revision} by {found.reference}")


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
