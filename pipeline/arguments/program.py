"""The program: every command there is, in the order of its help. A new command is an entry of one of these."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pipeline.arguments import of_datasets, of_exports, of_models, of_runs, of_sharing, of_shells
from pipeline.arguments.help import EXIT_CODES, PROGRAM, in_examples
from pipeline.arguments.parser import Parser
from pipeline.arguments.shared import debug
from pipeline.arguments.versions import PrintVersions

COMMANDS = tuple(
    command
    for each in (of_runs, of_datasets, of_exports, of_sharing, of_models, of_shells)
    for command in each.COMMANDS
)
EXAMPLES = ("run --input docs/ --output vectors/", "search vectors/ 'parse a JSON document'")


def parser() -> Parser:
    """Return the parser of the program, whose `commands` has those of its commands."""
    program = Parser(
        prog=PROGRAM,
        description="Embed tables and documents into float16 Parquet. Whatever stops a run, the same command goes on.",
        epilog=f"{in_examples(EXAMPLES)}\n\n{EXIT_CODES}",
    )
    program.add_argument(
        "-V", "--version", action=PrintVersions, help="show the versions of this program and of engines"
    )
    subparsers = program.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        own = subparsers.add_parser(
            command.name, help=command.summary, description=command.summary, epilog=in_examples(command.examples)
        )
        for add in (debug, *command.flags):
            add(own)
        program.commands[command.name] = own
    return program


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was typed, `sys.argv` by default; `command` has the name of the command. Ends where it is wrong."""
    return parser().parse_args(arguments)
