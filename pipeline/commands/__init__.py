"""The commands: options in, one call into the pipeline, words or JSON out."""

from pipeline.commands.asked import DEFAULT_CONFIG
from pipeline.commands.datasets import rejects, search, slice, status, verify
from pipeline.commands.exports import FORMATS, export, quality
from pipeline.commands.models import golden, serve
from pipeline.commands.runs import compact, plan, run
from pipeline.commands.sharing import push, report

__all__ = [
    "DEFAULT_CONFIG",
    "FORMATS",
    "compact",
    "export",
    "golden",
    "plan",
    "push",
    "quality",
    "rejects",
    "report",
    "run",
    "search",
    "serve",
    "slice",
    "status",
    "verify",
]
