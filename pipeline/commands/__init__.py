"""The commands: options in, one call into the pipeline, words or JSON out.

Each is imported when it is called: the words of another, or of a wrong flag, do not wait for what it computes with.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "datasets": ("rejects", "slice", "status", "verify"),
    "exports": ("export", "quality"),
    "model": ("golden", "init", "models", "serve"),
    "queries": ("search",),
    "runs": ("check_made", "compact", "made", "plan", "planned", "run"),
    "sharing": ("push", "report"),
    "spool": ("spooled",),
    "shells": ("completion",),
}

__all__ = [name for names in _MODULES.values() for name in names]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"pipeline.commands.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
