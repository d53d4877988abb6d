"""The commands that show a dataset to others."""

from __future__ import annotations

from pipeline.arguments.command import Command
from pipeline.arguments.parser import Parser
from pipeline.arguments.shared import dataset


def _push(parser: Parser) -> None:
    parser.add_argument("repo", metavar="REPO", help="OWNER/NAME of the dataset on the hub; made when it is not there")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--public", action="store_true", help="for everyone to see")
    seen.add_argument("--private", dest="public", action="store_false", help="for its owner to see (default)")
    parser.add_argument("--yes", action="store_true", help="send it")
    parser.set_defaults(public=False)


COMMANDS = (
    Command(
        name="report",
        summary="write D/report.html: what a dataset is, in one page for a browser",
        examples=("report vectors/", "report /data/wiki-vectors"),
        flags=(dataset,),
    ),
    Command(
        name="push",
        summary="show what would go to the Hugging Face hub; with --yes send it",
        examples=("push vectors/ me/wiki-vectors", "push vectors/ me/wiki-vectors --public --yes"),
        flags=(dataset, _push),
    ),
)
