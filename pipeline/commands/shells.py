"""The command for the shell that the others are typed in."""

from __future__ import annotations

from argparse import Namespace

from pipeline.arguments import completion_script, parser


def completion(options: Namespace) -> None:
    """Print the script that makes a shell complete what is typed."""
    print(completion_script(parser(), options.shell))
