"""The commands that go from an input to an output."""

from __future__ import annotations

from pipeline.arguments.command import Command
from pipeline.arguments.numbers import positive, whole
from pipeline.arguments.parser import Parser
from pipeline.arguments.shared import as_json, config


def _input(parser: Parser) -> None:
    parser.add_argument(
        "--input",
        metavar="P",
        required=True,
        nargs="+",
        action="extend",
        help="files, folders or globs of the formats in docs/formats.md, hf://…, or - for JSON lines on stdin",
    )
    parser.add_argument(
        "--dim", metavar="N", type=whole, help="width of the stored vectors (default: run.dim of the config)"
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="embed the first N rows only")
    parser.add_argument("--allow-untrained-dim", action="store_true", help="take a --dim the model was not trained for")


def _plan(parser: Parser) -> None:
    parser.add_argument("--output", metavar="D", help="count only what this output lacks")


def _run(parser: Parser) -> None:
    parser.add_argument(
        "--output", metavar="D", required=True, help="the folder of the dataset; made when it is not there"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what `plan` says, and change nothing")
    parser.add_argument("--strict", action="store_true", help="fail when a row was rejected")
    parser.add_argument(
        "--rebuild", action="store_true", help="replace an output of another recipe once the new one is whole"
    )
    parser.add_argument("--rehash", action="store_true", help="read every file again, whatever its date says")
    parser.add_argument("--keep-missing", action="store_true", help="keep the rows of files that are gone")
    parser.add_argument("--prune", action="store_true", help="let more rows go than run.max_removed")
    parser.add_argument("--skip-bad-files", action="store_true", help="leave out files that cannot be read")


COMMANDS = (
    Command(
        name="plan",
        summary="tell rows, tokens and chunks of a run before it is made; loads no engine",
        examples=("plan --input docs/", "plan --input 'docs/*.jsonl' --output vectors/ --dim 384 --json"),
        flags=(config, _input, as_json, _plan),
    ),
    Command(
        name="run",
        summary="make the output reflect the input",
        examples=(
            "run --input docs/ --output vectors/",
            "run --input 'data/*.parquet' --output vectors/ --dim 128 --set corpus.text='{title} {body}'",
        ),
        flags=(config, _input, as_json, _run),
    ),
)
