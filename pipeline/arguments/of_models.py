"""The commands on a model."""

from __future__ import annotations

from pathlib import Path

from pipeline.arguments.command import Command
from pipeline.arguments.numbers import positive
from pipeline.arguments.parser import Parser
from pipeline.arguments.shared import as_json, config, overrides


def _serve(parser: Parser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=positive, default=8000, help="(default: %(default)s)")
    access = parser.add_mutually_exclusive_group()
    access.add_argument("--api-key-file", type=Path, metavar="F", help="file with the key (default: $VLLM_API_KEY)")
    access.add_argument("--no-auth", action="store_true", help="serve everyone who can reach the address")


def _init(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a model of the hub, a folder, or the name of a shipped config")
    overrides(parser)


COMMANDS = (
    Command(
        name="models",
        summary="list the configs that are shipped",
        examples=("models", "models --json"),
        flags=(as_json,),
    ),
    Command(
        name="init",
        summary="print a config for a model, worked out of its own files, to edit and to keep",
        examples=("init BAAI/bge-small-en-v1.5 > mine.toml", "init ./my-model --set model.licence=MIT > mine.toml"),
        flags=(_init,),
    ),
    Command(
        name="golden",
        summary="make the reference vectors that engines of a model are checked against",
        examples=("golden --config configs/local.toml", "golden --config mine.toml --set model.dtype=float32"),
        flags=(config,),
    ),
    Command(
        name="serve",
        summary="serve embeddings over HTTP, as OpenAI does, until stopped",
        examples=("serve --no-auth", "serve --config configs/local.toml --port 9000 --api-key-file key.txt"),
        flags=(config, _serve),
    ),
)
