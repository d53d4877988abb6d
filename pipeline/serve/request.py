"""What a request for embeddings may ask: its fields and their sizes, checked before anything of it is made an object.

A body of 8 MiB can hold four million numbers. What is too much is seen from the raw bytes, in milliseconds.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Literal

import msgspec

MAX_BODY_BYTES = 8 << 20
MAX_INPUTS = 2048  # of one request, as at OpenAI
MAX_IDS = 300_000  # of one request, all its lists together, as at OpenAI

TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)

Inputs = str | list[str] | list[int] | list[list[int]]


class Fault(ValueError):
    """A request that is refused with 400; its text says what was expected, what was found, and where."""


class Embeddings(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The fields that this service means; OpenAI, too, answers any other one with 400."""

    input: msgspec.Raw
    model: str | None = None
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    truncate_prompt_tokens: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    user: str | None = None


def settle(body: bytes, *, dims: tuple[int, ...], max_tokens: int) -> bytes:
    """Return a request as JSON that holds what was checked and nothing else; raises Fault."""
    try:
        asked = msgspec.json.decode(body, type=Embeddings)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Fault(f"body: expected JSON with {', '.join(Embeddings.__struct_fields__)}, found: {error}") from None
    try:
        inputs = _inputs(bytes(asked.input), max_tokens)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        found = str(error).replace("`$", "`$.input")
        raise Fault(f"input: expected a text, a list of texts, or lists of token ids, found: {found}") from None
    if asked.dimensions is not None and asked.dimensions not in dims:
        raise Fault(f"dimensions: expected one of {', '.join(map(str, dims))}, found {asked.dimensions}")
    cut = asked.truncate_prompt_tokens
    if cut is not None and not (cut == -1 or 1 <= cut <= max_tokens):
        raise Fault(f"truncate_prompt_tokens: expected -1 or 1 to {max_tokens:,}, found {cut:,}")
    asked.input = msgspec.Raw(msgspec.json.encode(inputs))
    asked.user = None
    return msgspec.json.encode(asked)


def _inputs(raw: bytes, max_tokens: int) -> Inputs:
    """Return the `input` of a request; raises Fault, or MsgspecError for what is neither text nor token ids."""
    if raw.startswith(b"[") and b'"' not in raw:
        return _ids(raw, max_tokens)
    if raw.startswith(b"[") and raw.count(b'"') > 2 * MAX_INPUTS and _count_texts(raw) > MAX_INPUTS:
        raise Fault(f"input: expected at most {MAX_INPUTS:,} texts, found more")
    inputs = msgspec.json.decode(raw, type=str | list[str])
    for at, text in enumerate([inputs] if isinstance(inputs, str) else inputs):
        if not text.strip():
            raise Fault(f"input[{at}]: expected a text, found nothing but white space")
    return inputs


def _count_texts(raw: bytes) -> int:
    """Return how many texts a list of texts holds, and no more than one over the limit."""
    return sum(1 for _ in itertools.islice(TEXT.finditer(raw), MAX_INPUTS + 1))


def _ids(raw: bytes, max_tokens: int) -> list[int] | list[list[int]]:
    """Return token ids: of one text, or of several in lists of their own."""
    if raw.count(b"]") > MAX_INPUTS + 1:
        raise Fault(f"input: expected at most {MAX_INPUTS:,} lists of token ids, found more")
    if raw.count(b",") >= max(MAX_IDS, max_tokens):
        raise Fault(f"input: expected at most {MAX_IDS:,} token ids in all, found more")
    nested = raw.count(b"[") > 1
    for at, ids in enumerate(raw[1:].split(b"]")):
        n_ids = ids.lstrip(b" \t\r\n,").count(b",") + 1
        if n_ids > max_tokens:
            where = f"input[{at}]" if nested else "input"
            raise Fault(f"{where}: expected at most {max_tokens:,} token ids (model.max_tokens), found {n_ids:,}")
    found = msgspec.json.decode(raw, type=list[int | list[int]])
    kinds = {type(value) for value in found}
    if len(kinds) != 1:
        raise Fault(f"input: expected token ids or lists of them, found {'both' if kinds else 'an empty list'}")
    if kinds == {list} and [] in found:
        raise Fault(f"input[{found.index([])}]: expected token ids, found none")
    return found  # type: ignore[return-value]
