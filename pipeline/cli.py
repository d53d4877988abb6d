"""The command line: arguments in, one call, words or JSON out, errors as one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from pipeline import commands
from pipeline.arguments import PROGRAM, parse, with_place
from pipeline.console import Stopped, in_one_line, stoppable
from pipeline.errors import ConfigError, PipelineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parse(arguments)
    # Flat over a run: glibc, once it has let 10 MB go, puts as much into its heap, which grows by what does not fit.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc" if sys.platform == "linux" else "system")
    if options.debug:
        os.environ |= {"EMBED_DEBUG": "1", "VLLM_LOGGING_LEVEL": "INFO"}
    terminal = os.dup(2)  # an engine that is loading keeps what is written to stderr out of sight
    try:
        with stoppable():
            getattr(commands, options.command)(options)
    except ConfigError as error:
        return _fail(options, error, with_place(str(error), options), error.exit_code)
    except PipelineError as error:
        return _fail(options, error, str(error), error.exit_code)
    except Stopped as stop:
        os.write(terminal, f"{PROGRAM}: stopped by {stop}{stop.left}\n".encode())
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
    print(f"{PROGRAM}:", in_one_line(" ".join(text.split())), file=sys.stderr)
    return code
