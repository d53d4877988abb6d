"""The HTTP server: a process of vLLM's own, behind our middleware.

The names are imported when they are used, because vLLM's process loads the middleware alone.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.serve.middleware import KEY_VARIABLE, read_key
    from pipeline.serve.refusal import refuse_all
    from pipeline.serve.server import Server

__all__ = ["KEY_VARIABLE", "Server", "read_key", "refuse_all"]
_WHERE = {"Server": "server", "refuse_all": "refusal"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return resolve_name(f"pipeline.serve.{_WHERE.get(name, 'middleware')}:{name}")
