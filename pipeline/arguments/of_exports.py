"""The commands on the vectors of a dataset for other programs."""

from __future__ import annotations

from functools import partial

from pipeline.arguments.command import Command
from pipeline.arguments.numbers import positive
from pipeline.arguments.parser import Parser
from pipeline.arguments.shared import as_json, dataset, destination

FORMATS = ("parquet-f32", "npy", "lance", "faiss", "pgvector", "int8", "binary")


def _export(parser: Parser) -> None:
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format (see docs/export.md)")


def _quality(parser: Parser) -> None:
    parser.add_argument(
        "--sample", type=positive, default=1000, metavar="N", help="passages that are queries (default: 1000)"
    )


COMMANDS = (
    Command(
        name="export",
        summary="write a dataset in the format of another program",
        examples=("export vectors/ --to npy vectors-npy/", "export vectors/ --to parquet-f32 vectors.parquet"),
        flags=(dataset, _export, partial(destination, about="the file or folder; an earlier export is replaced")),
    ),
    Command(
        name="quality",
        summary="measure what fewer dims, int8 or bits cost on a dataset's own vectors",
        examples=("quality vectors/", "quality vectors/ --sample 200 --json"),
        flags=(dataset, as_json, _quality),
    ),
)
