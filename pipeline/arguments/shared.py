"""Flags that several commands have."""

from __future__ import annotations

from functools import partial

from pipeline.arguments.parser import Parser

DEFAULT_CONFIG = "local"  # of those that are shipped


def debug(parser: Parser) -> None:
    """Add `--debug`."""
    parser.add_argument("--debug", action="store_true", help="show tracebacks and what the engine writes")


def as_json(parser: Parser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON value instead of words")


def dataset(parser: Parser) -> None:
    """Add the dataset."""
    parser.add_argument("dataset", metavar="D", help="the output folder of a run")


def destination(parser: Parser, about: str) -> None:
    """Add the place that something is written to."""
    parser.add_argument("destination", metavar="DEST", help=about)


def _config(parser: Parser, default: str) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model", metavar="ID", help="a model of the hub, or a folder: its own files say how it is used"
    )
    which.add_argument("--config", metavar="C", help=f"TOML file, or the name of a shipped one (default: {default})")
    overrides(parser)


def overrides(parser: Parser) -> None:
    """Add `--set`."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change a key of the config, see below"
    )
    parser.set_defaults(dim=None, allow_untrained_dim=False)


config = partial(_config, default=f"$EMBED_CONFIG, else {DEFAULT_CONFIG}")
config_of_dataset = partial(_config, default="the one of the dataset's model, $EMBED_CONFIG or a shipped one")
