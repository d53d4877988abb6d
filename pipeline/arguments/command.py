"""A command: its name, what it does, two examples and its flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.arguments.parser import Parser

Flags = Callable[[Parser], object]  # adds flags to the parser of a command


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the command line; `pipeline.commands` has a function of its name, which gets what was parsed."""

    name: str
    summary: str
    examples: tuple[str, str]  # as they are typed, without the name of the program
    flags: tuple[Flags, ...]
