"""The command line: arguments in, one call, words or JSON out, errors as one line and an exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import Config, load_config, parse_config
from pipeline.errors import DamageError, IncompleteError, PipelineError, UsageError
from pipeline.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_CONFIG = "configs/local.toml"
EXIT_CODES = """exit codes:
  0  complete and reconciled (rejected rows are reported, and fail only under --strict)
  1  unexpected
  2  bad flag, config or input, before anything is embedded
  3  incomplete: some chunks did not finish; run again
  4  another run holds this output
  5  the output was made with another recipe
  6  verify found damage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    pa.set_memory_pool(pa.system_memory_pool())  # memory stays flat over a run: a fifth less than the default's
    if options.debug:
        os.environ |= {"EMBED_DEBUG": "1", "VLLM_LOGGING_LEVEL": "INFO"}
    try:
        options.command(options)
    except PipelineError as error:
        return _fail(options, error, str(error), error.exit_code)
    except KeyboardInterrupt as error:
        return _fail(options, error, "stopped; run the same command again to go on from here", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001  the edge: whatever it is becomes one line
        return _fail(options, error, f"unexpected {type(error).__name__}: {error}; --debug shows where", 1)
    return 0


def _fail(options: argparse.Namespace, error: BaseException, text: str, code: int) -> int:
    if options.debug:
        raise error
    print("embed-corpus:", " ".join(text.split()), file=sys.stderr)
    return code


def _plan(options: argparse.Namespace) -> None:
    from pipeline.estimate import estimate
    from pipeline.survey import survey

    with tempfile.TemporaryDirectory() as empty:
        store = Store(root=Path(options.output or empty))
        found = estimate(survey(options.input, store, _config(options), limit=options.limit))
    words = (
        "{input_rows:,} rows, about {tokens:,} tokens ({tokens_low:,} to {tokens_high:,}), {chunks:,} chunks to make"
    )
    _say(options, found, words.format(**found))


def _run(options: argparse.Namespace) -> None:
    from pipeline.fan_out import fan_out_here
    from pipeline.run import run

    store = Store(root=Path(options.output))
    outcome = run(
        options.input,
        store,
        _config(options),
        fan_out=fan_out_here(store),
        limit=options.limit,
        skip_bad_files=options.skip_bad_files,
    )
    record, sums = outcome.run, outcome.totals
    for source in record.skipped_files:
        print(f"embed-corpus: skipped {source}", file=sys.stderr)
    busy = f", engine busy {record.engine_busy:.1%}" if record.engine_busy is not None else ""
    print(
        f"{record.state}: {sums['input_rows']:,} rows, {sums['embedded_rows']:,} embedded, {sums['rejected_rows']:,} "
        f"rejected, {sums['parts']:,} parts, {sums['tokens']:,} tokens; this run embedded {record.embedded_now:,} "
        f"texts in {record.wall_s:,.1f} s{busy}"
    )
    if record.missing_chunks:
        causes = "; ".join(dict.fromkeys(f"{failure.source}: {failure.error}" for failure in outcome.failures[:3]))
        raise IncompleteError(
            f"output {options.output}: {record.missing_chunks} chunks did not finish ({causes}); run again"
        )
    if options.strict and sums["rejected_rows"]:
        raise IncompleteError(
            f"output {options.output}: expected every row embedded (--strict), found {sums['rejected_rows']:,} "
            "rejected; their reasons stand in rejects/"
        )


def _status(options: argparse.Namespace) -> None:
    from pipeline.status import open_dataset, status

    store = Store(root=Path(options.dataset))
    found = status(store, open_dataset(store))
    _say(options, found, "\n".join(f"{name:<16}{value}" for name, value in found.items()))


def _verify(options: argparse.Namespace) -> None:
    from pipeline.status import open_dataset, status
    from pipeline.verify import as_tables, verify

    store = Store(root=Path(options.dataset))
    manifest = open_dataset(store)
    problems, duplicate_ids = verify(store, manifest)
    found = status(store, manifest) | {"duplicate_ids": duplicate_ids, "problems": as_tables(problems)}
    lines = [f"{problem.path}: {problem.kind}: {problem.detail}" for problem in problems]
    summary = (
        "{state}: {parts:,} parts, {embedded_rows:,} embedded and {rejected_rows:,} rejected of {input_rows:,} rows"
    )
    _say(options, found, "\n".join([*lines, summary.format(**found)]))
    if problems:
        raise DamageError(f"dataset {options.dataset}: {len(problems)} problems; the first is {lines[0]}")
    if found["state"] != "complete":
        raise IncompleteError(f"dataset {options.dataset}: sound but {found['state']}; `embed-corpus run` completes it")


def _search(options: argparse.Namespace) -> None:
    from pipeline.search import embed_query, nearest
    from pipeline.status import open_dataset

    store = Store(root=Path(options.dataset))
    manifest = open_dataset(store)
    if manifest.dataset is None:
        raise DamageError(f"dataset {options.dataset}: the manifest has no dataset line; `embed-corpus run` mends it")
    if options.k < 1:
        raise UsageError(f"search: expected -k of at least 1, found {options.k}")
    config = parse_config(manifest.dataset.config, where=str(store.manifest_path))
    hits = nearest(store, manifest, embed_query(options.query, config), options.k)
    _say(options, hits, "\n".join(f"{hit['score']:.4f}  {hit['id']}  {hit['source']}:{hit['row']}" for hit in hits))


def _config(options: argparse.Namespace) -> Config:
    name = options.config or os.environ.get("EMBED_CONFIG") or DEFAULT_CONFIG
    path = Path(name)
    if not path.exists() and not path.is_absolute():
        path = REPOSITORY / name
    return load_config(path, options.set, dim=options.dim, allow_untrained_dim=options.allow_untrained_dim)


def _say(options: argparse.Namespace, found: Any, words: str) -> None:
    print(json.dumps(found) if options.json else words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="embed-corpus",
        description="Embed Parquet and JSONL into float16 Parquet. Whatever stops a run, the same command goes on.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and what the engine writes")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print one JSON value instead of words")
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument(
        "--input", required=True, help="a file, a folder or a glob of .parquet, .jsonl[.gz|.zst], .ndjson"
    )
    recipe.add_argument("--config", help=f"TOML file (default: $EMBED_CONFIG, else {DEFAULT_CONFIG})")
    recipe.add_argument("--dim", type=int, help="width of the stored vectors (default: run.dim of the config)")
    recipe.add_argument("--limit", type=_positive, metavar="N", help="embed the first N rows only")
    recipe.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a config key")
    recipe.add_argument("--allow-untrained-dim", action="store_true", help="take a --dim the model was not trained for")
    dataset = argparse.ArgumentParser(add_help=False)
    dataset.add_argument("dataset", metavar="D", help="the output folder of a run")

    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, call: Any, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, parents=[common, *parents])
        command.set_defaults(command=call)
        return command

    plan = add(
        "plan", _plan, "tell rows, tokens and chunks of a run before it is made; loads no engine", recipe, as_json
    )
    plan.add_argument("--output", help="count only what this output lacks")
    run = add("run", _run, "make the output reflect the input", recipe)
    run.add_argument("--output", required=True, help="the folder of the dataset; made when it is not there")
    run.add_argument("--strict", action="store_true", help="fail when a row was rejected")
    run.add_argument("--skip-bad-files", action="store_true", help="leave out files that cannot be read")
    add("status", _status, "tell what a dataset holds and how its last run went", dataset, as_json)
    add("verify", _verify, "check every file of a dataset against its manifest", dataset, as_json)
    search = add("search", _search, "find the passages nearest to a query", dataset, as_json)
    search.add_argument("query")
    search.add_argument("-k", type=int, default=10, help="how many (default: 10)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, found {text}")
    return number
