"""Everything this package raises on purpose, and the exit code each error ends a command with.

PipelineError                 1  unexpected
├── UsageError                2  bad flag, config or input, before anything is embedded
│   ├── ConfigError           2  a config file or override that cannot be used
│   └── CorpusError           2  an input that cannot be read
├── IncompleteError           3  some chunks did not finish, run again; or every row was rejected
│   └── OutputError           3  an output that can no longer be written
├── OutputLockedError         4  another run holds this output
├── RecipeError               5  the output was made with another recipe
├── DamageError               6  verify or compact found damage
├── RemovalError              7  more rows would leave than may; nothing was changed
└── EngineError               1  the engine did not load or broke its contract
    ├── BrokenEngineError     1  the engine went wrong, whatever it is given
    └── VectorError           1  vectors that must not be stored
"""

from __future__ import annotations


def advised(found: str, advice: str) -> str:
    """Return what was found and what to do about it as sentences of one line."""
    return f"{found}{'' if found.endswith(('.', '?')) else '.'} {advice}"


class PipelineError(Exception):
    """Base of every error raised on purpose; its text is one line for the person at the terminal."""

    exit_code = 1


class UsageError(PipelineError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file or an override that cannot be used."""


class CorpusError(UsageError):
    """An input that cannot be read.

    `source` names the shard, where rows of it alone were asked for, `column` the column that is not as it should be.
    """

    source = ""
    column = ""


class IncompleteError(PipelineError):
    """Some chunks did not finish, or every row was rejected."""

    exit_code = 3


class OutputError(IncompleteError):
    """An output that can no longer be written: full, read-only or failing."""


class OutputLockedError(PipelineError):
    """Another run holds this output."""

    exit_code = 4


class RecipeError(PipelineError):
    """The output was made with another recipe."""

    exit_code = 5


class DamageError(PipelineError):
    """The files of a dataset contradict its manifest or themselves."""

    exit_code = 6


class RemovalError(PipelineError):
    """More rows would leave the output than may without a word."""

    exit_code = 7


class EngineError(PipelineError):
    """The engine did not load or broke its contract."""


class BrokenEngineError(EngineError):
    """The engine went wrong, whatever it is given: no row is to blame, and nothing more is to be had from it."""


class VectorError(EngineError):
    """Vectors that must not be stored: wrong shape, not finite or without length."""
