"""The command for the shell that the others are typed in."""

from __future__ import annotations

from pipeline.arguments.command import Command
from pipeline.arguments.completion import SHELLS
from pipeline.arguments.parser import Parser


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


COMMANDS = (
    Command(
        name="completion",
        summary="print what makes a shell complete commands, flags and paths: source <(embed-corpus completion bash)",
        examples=(
            "completion bash > ~/.local/share/bash-completion/completions/embed-corpus",
            "completion zsh > ~/.zfunc/_embed-corpus",
        ),
        flags=(_completion,),
    ),
)
