"""What is shipped with the code: the configs, by their names, and where a relative path of a config starts."""

from __future__ import annotations

import difflib
from pathlib import Path

from pipeline.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
SOURCES = _PACKAGE.parent  # what is on the path of Python: the repository, or where a wheel was installed
# A wheel has the configs in the package; in the repository, and in an image of jobs/, they are beside it.
ROOT = _PACKAGE if (_PACKAGE / "configs").is_dir() else SOURCES
CONFIGS = ROOT / "configs"
SCHEDULE = "cron"  # the one file there that is no config of a model


def shipped_configs() -> dict[str, Path]:
    """Return the paths of the shipped configs by name, such as "local", in the order of their names."""
    return {path.stem: path for path in sorted(CONFIGS.glob("*.toml")) if path.stem != SCHEDULE}


def find_file(path: str) -> Path:
    """Return where a path leads: from here if something is there, else below the repository.

    Without a repository that is a shipped file, such as configs/local.toml, or one that is yet to be made here.
    """
    here, below = Path(path), ROOT / path
    return here if here.exists() or not (ROOT == SOURCES or below.exists()) else below


def find_config(named: str) -> Path:
    """Return the path of a config, which is given as a path or as a shipped one's name; a path wins.

    Raises ConfigError with the names where there is neither.
    """
    shipped, path = shipped_configs(), find_file(named)
    if path.exists() and not (path.is_dir() and named in shipped):
        return path
    if named in shipped:
        return shipped[named]
    near = difflib.get_close_matches(named, shipped, n=1)
    raise ConfigError(
        f"config {named}: expected a readable TOML file or the name of a shipped config, found neither"
        f"{f'; did you mean {near[0]}?' if near else ''}; shipped are {', '.join(shipped)}"
    )


def how_to_install(extra: str) -> str:
    """Return in words how the packages of an extra are installed: by make in the repository, else by pip."""
    return "run `make venv`" if (SOURCES / "Makefile").is_file() else f"run `pip install 'embed-corpus[{extra}]'`"
