"""Words of the help that more than one command has."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

PROGRAM = "embed-corpus"
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
SET = """
--set TABLE.KEY=VALUE changes a key of the config, and may be given again for
another. VALUE is TOML or bare text:
  --set model.dtype=float32                a text
  --set corpus.keep='["title", "year"]'    a list
  --set engine.enforce_eager=false         true or false
  --set run.chunk_tokens=65_536            a number; 1e6 is one too
  --set model.document_prompt=             the empty text
keys (configs/*.toml explain each):
"""
KEYS = textwrap.TextWrapper(width=80, subsequent_indent=" " * 11, break_on_hyphens=False)


def in_examples(lines: Iterable[str]) -> str:
    """Return commands as the examples of a help."""
    return "\n".join(["examples:", *(f"  {PROGRAM} {line}" for line in lines)])


def explain_set() -> str:
    """Return how `--set` is written, and which keys there are."""
    from pipeline.config import keys_of_tables

    return SET + "".join(
        KEYS.fill(f"  {f'[{table}]':<9}{', '.join(keys)}") + "\n" for table, keys in keys_of_tables().items()
    )
