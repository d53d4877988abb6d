"""What is done with a finished dataset: verify, repair, search, slice, export, measure, report, push, list rejects."""

from pipeline.tools.coverage import coverage
from pipeline.tools.export import TARGETS, export
from pipeline.tools.own_config import own_config
from pipeline.tools.passages import Passages, passages_of
from pipeline.tools.push import Shipment, check_repo, push, shipment
from pipeline.tools.quality import describe_quality, quality
from pipeline.tools.rejects import format_reject, list_rejects
from pipeline.tools.repair import repair
from pipeline.tools.report import report
from pipeline.tools.search import embed_query, nearest
from pipeline.tools.slice import slice_dataset
from pipeline.tools.verify import LEFT_BY_A_RUN, as_tables, verify
from pipeline.tools.write_config import write_config

__all__ = [
    "LEFT_BY_A_RUN",
    "TARGETS",
    "Passages",
    "Shipment",
    "as_tables",
    "check_repo",
    "coverage",
    "describe_quality",
    "embed_query",
    "export",
    "format_reject",
    "list_rejects",
    "nearest",
    "own_config",
    "passages_of",
    "push",
    "quality",
    "repair",
    "report",
    "shipment",
    "slice_dataset",
    "verify",
    "write_config",
]
