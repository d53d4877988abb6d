"""The command line: arguments in, one call, words or JSON out, errors as one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from pipeline import commands
from pipeline.console import Stopped, in_one_line, stoppable
from pipeline.errors import PipelineError, UsageError

EXIT_CODES = """exit codes:
  0  complete and reconciled (rejected rows are reported, and fail only under --strict)
  1  unexpected
  2  bad flag, config or input, before anything is embedded
  3  incomplete: some chunks did not finish, run again; or every row was rejected
  4  another run holds this output
  5  the output was made with another recipe
  6  verify or compact found damage
  7  more rows would be removed than allowed; nothing was changed
  130, 143  stopped by Ctrl-C or SIGTERM; run again
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    pa.set_memory_pool(pa.system_memory_pool())  # memory stays flat over a run: a fifth less than the default's
    if options.debug:
        os.environ |= {"EMBED_DEBUG": "1", "VLLM_LOGGING_LEVEL": "INFO"}
    terminal = os.dup(2)  # an engine that is loading keeps what is written to stderr out of sight
    try:
        with stoppable():
            options.command(options)
    except PipelineError as error:
        return _fail(options, error, str(error), error.exit_code)
    except Stopped as stop:
        os.write(terminal, f"embed-corpus: stopped by {stop}{stop.left}\n".encode())
        os._exit(stop.exit_code)  # now: a thread that still embeds would hold up an orderly exit
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001  the edge: whatever it is becomes one line
        return _fail(options, error, f"unexpected {type(error).__name__}: {error}; --debug shows where", 1)
    finally:
        os.close(terminal)
    return 0


def _fail(options: argparse.Namespace, error: BaseException, text: str, code: int) -> int:
    if options.debug:
        traceback.print_exception(error)
    print("embed-corpus:", in_one_line(" ".join(text.split())), file=sys.stderr)
    return code


class _Once(argparse.Action):
    """Store a value; a second one would silently take the place of the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Take the value of one flag or argument."""
        if (first := getattr(namespace, self.dest, None)) != self.default:
            raise argparse.ArgumentError(self, f"expected once, found {first} and {values}")
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("action", None, _Once)

    def error(self, message: str) -> NoReturn:
        """End with one line, as every other error does."""
        self.exit(UsageError.exit_code, f"embed-corpus: {in_one_line(message)}; see `{self.prog} --help`\n")


Add = Callable[..., _Parser]  # name, command, description, and parsers whose flags it shares


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="embed-corpus",
        description="Embed Parquet and JSONL into float16 Parquet. Whatever stops a run, the same command goes on.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and what the engine writes")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, call: Any, text: str, *parents: _Parser) -> _Parser:
        command = subparsers.add_parser(name, help=text, description=text, parents=[common, *parents])
        command.set_defaults(command=call)
        return command

    as_json = _Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print one JSON value instead of words")
    configured = _configured(f"$EMBED_CONFIG, else {commands.DEFAULT_CONFIG}")
    _add_run_commands(add, configured, as_json)
    _add_dataset_commands(add, as_json)
    _add_export_commands(add, as_json)
    _add_model_commands(add, configured)
    return parser


def _configured(default: str) -> _Parser:
    """Return a parser of the flags that give a config."""
    parser = _Parser(add_help=False)
    parser.add_argument("--config", help=f"TOML file (default: {default})")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a config key")
    parser.set_defaults(dim=None, allow_untrained_dim=False)
    return parser


def _add_run_commands(add: Add, configured: _Parser, as_json: _Parser) -> None:
    """Add the commands that go from an input to an output."""
    recipe = _Parser(add_help=False, parents=[configured])
    recipe.add_argument(
        "--input", required=True, help="a file, a folder or a glob of .parquet, .jsonl[.gz|.zst], .ndjson"
    )
    recipe.add_argument("--dim", type=int, help="width of the stored vectors (default: run.dim of the config)")
    recipe.add_argument("--limit", type=_positive, metavar="N", help="embed the first N rows only")
    recipe.add_argument("--allow-untrained-dim", action="store_true", help="take a --dim the model was not trained for")
    text = "tell rows, tokens and chunks of a run before it is made; loads no engine"
    plan = add("plan", commands.plan, text, recipe, as_json)
    plan.add_argument("--output", help="count only what this output lacks")
    run = add("run", commands.run, "make the output reflect the input", recipe)
    run.add_argument("--output", required=True, help="the folder of the dataset; made when it is not there")
    run.add_argument("--strict", action="store_true", help="fail when a row was rejected")
    run.add_argument(
        "--rebuild", action="store_true", help="replace an output of another recipe once the new one is whole"
    )
    run.add_argument("--rehash", action="store_true", help="read every file again, whatever its date says")
    run.add_argument("--keep-missing", action="store_true", help="keep the rows of files that are gone")
    run.add_argument("--prune", action="store_true", help="let more rows go than run.max_removed")
    run.add_argument("--skip-bad-files", action="store_true", help="leave out files that cannot be read")


def _add_dataset_commands(add: Add, as_json: _Parser) -> None:
    """Add the commands on a dataset."""
    dataset = _Parser(add_help=False)
    dataset.add_argument("dataset", metavar="D", help="the output folder of a run")
    status = add("status", commands.status, "tell what a dataset holds and how its last run went", dataset, as_json)
    status.add_argument("--watch", action="store_true", help="show how far a run is until it ends")
    verify = add("verify", commands.verify, "check every file of a dataset against its manifest", dataset, as_json)
    verify.add_argument("--input", metavar="P", help="check too that every row of this input is there or rejected")
    verify.add_argument("--repair", action="store_true", help="drop what is damaged, for the next run to make again")
    add("rejects", commands.rejects, "list the rows that could not be embedded, and why", dataset, as_json)
    add("compact", commands.compact, "join the small parts of a dataset, without engine and input", dataset, as_json)
    narrow = add("slice", commands.slice, "cut a dataset's vectors to fewer components, without an engine", dataset)
    narrow.add_argument("--dim", type=_positive, required=True, help="components of each vector that stay")
    narrow.add_argument(
        "--allow-untrained-dim", action="store_true", help="say nothing about a --dim the model was not trained for"
    )
    narrow.add_argument("destination", metavar="DEST", help="the folder of the new dataset")
    model = _configured("the one of the dataset's model, $EMBED_CONFIG or one of configs/")
    search = add("search", commands.search, "find the passages nearest to a query", dataset, model, as_json)
    search.add_argument("query")
    search.add_argument("-k", type=int, default=10, help="how many (default: 10)")


def _add_export_commands(add: Add, as_json: _Parser) -> None:
    """Add the commands on the vectors of a dataset for other programs."""
    dataset = _Parser(add_help=False)
    dataset.add_argument("dataset", metavar="D", help="the output folder of a run")
    export = add("export", commands.export, "write a dataset in the format of another program", dataset)
    export.add_argument("--to", required=True, choices=commands.FORMATS, help="the format (see docs/export.md)")
    export.add_argument("destination", metavar="DEST", help="the file or folder; an earlier export is replaced")
    text = "measure what fewer dims, int8 or bits cost on a dataset's own vectors"
    quality = add("quality", commands.quality, text, dataset, as_json)
    quality.add_argument(
        "--sample", type=_positive, default=1000, metavar="N", help="passages that are queries (default: 1000)"
    )
    add("report", commands.report, "write D/report.html: what a dataset is, in one page for a browser", dataset)
    push = add("push", commands.push, "show what would go to the Hugging Face hub; with --yes send it", dataset)
    push.add_argument("repo", metavar="OWNER/NAME", help="the dataset on the hub; made when it is not there")
    seen = push.add_mutually_exclusive_group()
    seen.add_argument("--public", action="store_true", help="for everyone to see")
    seen.add_argument("--private", dest="public", action="store_false", help="for its owner to see (default)")
    push.set_defaults(public=False)
    push.add_argument("--yes", action="store_true", help="send it")


def _add_model_commands(add: Add, configured: _Parser) -> None:
    """Add the commands on a model."""
    add("golden", commands.golden, "make the reference vectors that engines of a model are checked against", configured)
    serve = add("serve", commands.serve, "serve embeddings over HTTP, as OpenAI does, until stopped", configured)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_positive, default=8000, help="(default: %(default)s)")
    access = serve.add_mutually_exclusive_group()
    access.add_argument("--api-key-file", type=Path, metavar="F", help="file with the key (default: $VLLM_API_KEY)")
    access.add_argument("--no-auth", action="store_true", help="serve everyone who can reach the address")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, found {text}")
    return number
