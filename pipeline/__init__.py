"""Batch text embedding: shards in, Matryoshka-truncated float16 Parquet out, resumable at any point.

For Python: `open_dataset` reads what a run made, `plan` and `run` are the commands of these names. Each is imported
when it is used, and nothing else before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.python import OpenedDataset, open_dataset, plan, run

__all__ = ["OpenedDataset", "open_dataset", "plan", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("pipeline.python"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
