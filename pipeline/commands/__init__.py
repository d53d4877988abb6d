"""The commands: options in, one call into the pipeline, words or JSON out."""

from pipeline.commands.asked import DEFAULT_CONFIG
from pipeline.commands.datasets import rejects, search, slice, status, verify
from pipeline.commands.exports import FORMATS, export, quality
from pipeline.commands.models import golden, serve
from pipeline.commands.runs import check_made, compact, made, plan, planned, run

__all__ = [
    "DEFAULT_CONFIG",
    "FORMATS",
    "check_made",
    "compact",
    "export",
    "golden",
    "made",
    "plan",
    "planned",
    "quality",
    "rejects",
    "run",
    "search",
    "serve",
    "slice",
    "status",
    "verify",
]
