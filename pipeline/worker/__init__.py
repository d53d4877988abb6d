"""A chunk's whole life: read, tokenise, embed, publish."""

from pipeline.worker.attempts import attempt
from pipeline.worker.container import Service, pack, unpack_outcome
from pipeline.worker.embed import Failure, Job, are_rejected, embed_or_fail, embed_rows
from pipeline.worker.memory import Memory
from pipeline.worker.passages import passages_of, piece_hashes
from pipeline.worker.start import Start
from pipeline.worker.table import rejects_table

__all__ = [
    "Failure",
    "Job",
    "Memory",
    "Service",
    "Start",
    "are_rejected",
    "attempt",
    "embed_or_fail",
    "embed_rows",
    "pack",
    "passages_of",
    "piece_hashes",
    "rejects_table",
    "unpack_outcome",
]
