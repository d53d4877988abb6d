"""What was asked for: the config that the flags give, and the form of the answer."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.arguments import named_config
from pipeline.config import Config, load_config
from pipeline.shipped import find_config

if TYPE_CHECKING:
    from pipeline.dataset import Store
    from pipeline.model import Device, Named


def named_of(options: Namespace, name: str) -> Named:
    """Return the config of a model that was named, and where its values come from."""
    from pipeline.engines import default_kind
    from pipeline.model import read_named

    asked = {"dim": options.dim, "allow_untrained_dim": options.allow_untrained_dim}
    return read_named(name, options.set, kind=default_kind(), **asked)


def config_of(options: Namespace) -> Config:
    """Return the config that was asked for, with its revision resolved."""
    from pipeline.model import pin_and_check

    if options.model:
        return pin_and_check(named_of(options, options.model).config)
    path, named_by = named_config(options)
    return pin_and_check(
        load_config(
            find_config(path),
            options.set,
            dim=options.dim,
            allow_untrained_dim=options.allow_untrained_dim,
            named_by=named_by,
        )
    )


def settled(asked: Config, device: Device, output: Store, *, rebuild: bool = False) -> Config:
    """Return the config with the dtype of an output, or of the device where there is none yet."""
    from pipeline.driver import kept_dtype
    from pipeline.model import settle_dtype

    return settle_dtype(asked, device, kept=kept_dtype(asked, output, rebuild=rebuild))


def typed(arguments: Sequence[str]) -> str:
    """Return what was typed to start this command, from `sys.argv`, so that it can be typed again."""
    program, *others = arguments
    name = Path(program).name
    if name == "__main__.py":
        return shlex.join(["python", "-m", "pipeline", *others])
    found = shutil.which(name)
    is_known = found is not None and Path(found).resolve() == Path(program).resolve()
    return shlex.join([name if is_known else os.path.relpath(program), *others])


def say(options: Namespace, found: Any, words: str) -> None:
    """Print what was found, as JSON if that was asked for."""
    from pipeline.corpus import as_text  # a kept column may have what JSON has not, such as a time

    print(json.dumps(found, default=as_text) if options.json else words)
