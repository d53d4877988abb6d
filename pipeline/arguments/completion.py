"""What a shell completes: commands, flags, choices and paths, as a script for bash or zsh."""

from __future__ import annotations

from pipeline.arguments.help import PROGRAM
from pipeline.arguments.parser import Parser

SHELLS = ("bash", "zsh")
FILES = ("input", "config", "api_key_file", "destination")  # what takes a path, by its name in what was parsed
FOLDERS = ("output", "dataset")


def completion_script(program: Parser, shell: str) -> str:
    """Return the script that makes one of SHELLS complete what is typed for a program; for one process, once."""
    import shtab

    for command in program.commands.values():
        for action in command._actions:
            if action.dest in (*FILES, *FOLDERS):
                action.complete = shtab.FILE if action.dest in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
                action.nargs = None if action.nargs == "+" else action.nargs  # after "+" shtab proposes no flag
    return shtab.complete(program, shell, root_prefix=PROGRAM.replace("-", "_"))
