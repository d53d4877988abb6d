"""What is typed and not known: the flag, the command or the key that was meant, and what a shell made of a glob."""

from __future__ import annotations

import difflib
import os.path
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

NUMBER = re.compile(r"-\d+|-\d*\.\d+")  # what argparse takes for a value though it begins with a dash
SHOWN = 3  # of many paths


def unknown_flag(
    arguments: Sequence[str], flags: Sequence[str], commands: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return what is wrong with the first flag that is not known, and which was meant; "" where all are known.

    With `commands`, by name with their flags, only what is before the name of one is looked at.
    """
    for argument in _before_the_rest(arguments):
        if not _is_flag(argument):
            if commands is not None:
                return ""
            continue
        if _is_known(argument, flags):
            continue
        flag = argument.partition("=")[0]
        for name, own in (commands or {}).items():
            if flag in own:
                return f"{flag}: expected it after a command, such as `embed-corpus {name} {flag}`"
        return f"unknown flag {flag}{_meant(flag, flags)}"
    return ""


def unknown_command(arguments: Sequence[str], commands: Iterable[str]) -> str:
    """Return what is wrong with the command, and which was meant; "" for one that is known, or for help."""
    names = list(commands)
    found = next((argument for argument in arguments if not _is_flag(argument)), None)
    if not arguments:
        return f"expected a command: {', '.join(names)}"
    if found is None or found in names:
        return ""
    near = ["--help"] if found == "help" else difflib.get_close_matches(found.lower(), names, n=1, cutoff=0.5)
    return f"unknown command {found!r}; " + (f"did you mean {near[0]}?" if near else f"expected {', '.join(names)}")


def unexpected(arguments: Sequence[str], left: Sequence[str]) -> str:
    """Return what to do about arguments that no flag and no place takes; after `--input` a shell has opened a glob."""
    at = len(arguments) - 1 - list(reversed(arguments)).index(left[0])
    flag, value = ["", "", *arguments[:at]][-2:]
    if flag != "--input" and not value.startswith("--input="):
        return f"unexpected {shlex.join(left)}: a value with spaces is written in quotes"
    paths = [value.removeprefix("--input="), *left]
    if len(paths) <= SHOWN:
        each = shlex.join(part for path in paths for part in ("--input", path))
        return f"--input: expected one path, found {shlex.join(paths)}; write {each}"
    more = f" and {len(paths) - SHOWN:,} more"
    return (
        f"--input: expected one path, found {shlex.join(paths[:SHOWN])}{more}; write a glob in quotes, "
        f"as the shell opens it otherwise: --input {shlex.quote(_glob_of(paths))}"
    )


def _glob_of(paths: Sequence[str]) -> str:
    """Return a glob that has these paths, or a folder above them."""
    folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120  as it was typed
    if len(folders) > 1:
        return _common_start([f"{folder}/" for folder in folders]).rpartition("/")[0] or "."
    names = [os.path.basename(path) for path in paths]  # noqa: PTH119
    start = _common_start(names)
    end = _common_start([name[len(start) :][::-1] for name in names])[::-1]
    return os.path.join(folders.pop(), f"{start}*{end}")  # noqa: PTH118


def _common_start(texts: Sequence[str]) -> str:
    return os.path.commonprefix(list(texts))  # noqa: RUF071  character by character is what is meant


def _before_the_rest(arguments: Sequence[str]) -> Iterable[str]:
    return takewhile(lambda argument: argument != "--", arguments)


def _is_flag(argument: str) -> bool:
    """Whether argparse takes an argument for a flag."""
    return len(argument) > 1 and argument[0] == "-" and " " not in argument and not NUMBER.fullmatch(argument)


def _is_known(argument: str, flags: Sequence[str]) -> bool:
    """Whether an argument is a flag, the beginning of one, or a short one with its value."""
    flag = argument.partition("=")[0]
    if flag.startswith("--"):
        return any(known.startswith(flag) for known in flags)
    return argument[:2] in flags


def _meant(flag: str, flags: Sequence[str]) -> str:
    name = flag.lstrip("-").lower().replace("_", "-")
    if key := _key_of(name.replace("-", "_")):
        return f"; did you mean --set {key}=VALUE?"
    near = difflib.get_close_matches(f"--{name}", [known for known in flags if len(known) > 2], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _key_of(name: str) -> str:
    """Return the key of a config, with its table, that has a name; "" where there is none or more than one."""
    from pipeline.config import keys_of_tables

    found = [f"{table}.{key}" for table, keys in keys_of_tables().items() for key in keys if key == name]
    return found[0] if len(found) == 1 else ""
