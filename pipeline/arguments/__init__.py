"""What is typed: commands, flags and numbers, with examples and what was meant. It imports nothing that computes."""

from pipeline.arguments.completion import completion_script
from pipeline.arguments.help import PROGRAM
from pipeline.arguments.of_exports import FORMATS
from pipeline.arguments.places import named_config, with_place
from pipeline.arguments.program import COMMANDS, parse, parser
from pipeline.arguments.shared import DEFAULT_CONFIG

__all__ = [
    "COMMANDS",
    "DEFAULT_CONFIG",
    "FORMATS",
    "PROGRAM",
    "completion_script",
    "named_config",
    "parse",
    "parser",
    "with_place",
]
