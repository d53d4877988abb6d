"""The parser: argparse whose errors are one line, say what was meant, and come before what is merely missing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pipeline.arguments.help import PROGRAM, explain_set
from pipeline.arguments.misspelt import unexpected, unknown_command, unknown_flag
from pipeline.console import in_one_line
from pipeline.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Parser of the program, or of one of its commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.register("action", None, _Once)
        self.commands: dict[str, Parser] = {}  # of the program alone

    @property
    def flags(self) -> list[str]:
        """The flags that are known, short ones too."""
        return [flag for action in self._actions for flag in action.option_strings]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what is misspelt or too much is an error of its own, and the misspelt comes first."""
        given: Sequence[str] = sys.argv[1:] if args is None else list(args)
        if self.commands:
            commands = {name: parser.flags for name, parser in self.commands.items()}
            why = unknown_flag(given, self.flags, commands) or unknown_command(given, commands)
        else:
            why = unknown_flag(given, self.flags)
        if why:
            self.error(why)
        found, left = super().parse_known_args(given, namespace)
        if left:
            self.error(unexpected(given, left))
        return found, left

    def format_help(self) -> str:
        """Return the help; with how to write a value of `--set` where there is that flag."""
        return super().format_help() + (explain_set() if "--set" in self.flags else "")

    def error(self, message: str) -> NoReturn:
        """End with one line, as every other error does."""
        see = " See" if message.endswith("?") else "; see"
        self.exit(UsageError.exit_code, f"{PROGRAM}: {in_one_line(message)}{see} `{self.prog} --help`\n")


class _Once(argparse.Action):
    """Store a value; a second one would silently take the place of the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Take the value of one flag or argument."""
        if (first := getattr(namespace, self.dest, None)) != self.default:
            raise argparse.ArgumentError(self, f"expected once, found {first} and {values}")
        setattr(namespace, self.dest, values)
