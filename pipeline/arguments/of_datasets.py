"""The commands on a dataset."""

from __future__ import annotations

from functools import partial

from pipeline.arguments.command import Command
from pipeline.arguments.numbers import positive, whole
from pipeline.arguments.parser import Parser
from pipeline.arguments.shared import as_json, config_of_dataset, dataset, destination


def _status(parser: Parser) -> None:
    parser.add_argument("--watch", action="store_true", help="show how far a run is until it ends")


def _verify(parser: Parser) -> None:
    parser.add_argument(
        "--input", metavar="P", action="append", help="check too that every row of this input is there or rejected"
    )
    parser.add_argument("--repair", action="store_true", help="drop what is damaged, for the next run to make again")


def _slice(parser: Parser) -> None:
    parser.add_argument("--dim", metavar="N", type=positive, required=True, help="components of each vector that stay")
    parser.add_argument(
        "--allow-untrained-dim", action="store_true", help="say nothing about a --dim the model was not trained for"
    )


def _search(parser: Parser) -> None:
    parser.add_argument("query", help="words; left out only with -i").required = False
    parser.add_argument("-k", metavar="N", type=whole, default=10, help="how many (default: 10)")
    parser.add_argument("-i", action="store_true", help="go on asking: a query a line, until an empty one or the end")
    parser.add_argument("--where", metavar="W", default="", help="on columns, such as \"lang = 'en' and year > 2000\"")


COMMANDS = (
    Command(
        name="status",
        summary="tell what a dataset holds and how its last run went",
        examples=("status vectors/", "status vectors/ --watch"),
        flags=(dataset, as_json, _status),
    ),
    Command(
        name="verify",
        summary="check every file of a dataset against its manifest",
        examples=("verify vectors/ --input docs/", "verify vectors/ --repair"),
        flags=(dataset, as_json, _verify),
    ),
    Command(
        name="rejects",
        summary="list the rows that could not be embedded, and why",
        examples=("rejects vectors/", "rejects vectors/ --json"),
        flags=(dataset, as_json),
    ),
    Command(
        name="compact",
        summary="join the small parts of a dataset, without engine and input",
        examples=("compact vectors/", "compact vectors/ --json"),
        flags=(dataset, as_json),
    ),
    Command(
        name="slice",
        summary="cut a dataset's vectors to fewer components, without an engine",
        examples=(
            "slice vectors/ --dim 128 vectors-128/",
            "slice vectors/ --dim 100 vectors-100/ --allow-untrained-dim",
        ),
        flags=(dataset, _slice, partial(destination, about="the folder of the new dataset")),
    ),
    Command(
        name="search",
        summary="find the passages nearest to a query",
        examples=(
            "search vectors/ 'parse a JSON document'",
            "search vectors/ 'open a file' -k 3 --where 'not truncated'",
        ),
        flags=(dataset, config_of_dataset, as_json, _search),
    ),
)
