"""What is typed: commands, flags and numbers, with examples and what was meant. It imports nothing that computes."""

from pipeline.arguments.help import PROGRAM
from pipeline.arguments.of_exports import FORMATS
from pipeline.arguments.program import COMMANDS, parse, parser
from pipeline.arguments.shared import DEFAULT_CONFIG

__all__ = ["COMMANDS", "DEFAULT_CONFIG", "FORMATS", "PROGRAM", "parse", "parser"]
