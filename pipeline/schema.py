"""The schema of a part and of its rejects: each column, each type and each reject reason, defined once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

import pyarrow as pa

# What a passage says of itself.
PASSAGE = pa.schema(
    {
        "passage": pa.int32(),
        "char_start": pa.int32(),
        "char_end": pa.int32(),
        "n_tokens": pa.int32(),
        "truncated": pa.bool_(),
    }
)
# The columns of every part; TEXT, kept columns and the embedding come after them.
PART = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("row", pa.int64()),
        *PASSAGE,
        pa.field("content_hash", pa.binary(16)),
    ]
)
TEXT = pa.field("text", pa.string())  # the passage itself, in parts whose receipt says that they have it
EMBEDDING = "embedding"
RESERVED = (*PART.names, TEXT.name, EMBEDDING)  # no kept column has one of these names in a part
REJECTS = pa.schema(
    {
        "id": pa.string(),
        "source": pa.string(),
        "row": pa.int64(),
        "reason": pa.string(),
        "detail": pa.string(),
        "text": pa.string(),
    }
)

Reason = Literal[
    "malformed_json",
    "malformed_row",
    "null_text",
    "not_a_string",
    "empty_text",
    "invalid_utf8",
    "too_long",
    "engine_error",
]
REASONS: tuple[str, ...] = get_args(Reason)
LATER_REASONS = ("empty_text", "too_long", "engine_error")  # that a tokenizer or an engine may find


def content_hashes(texts: Sequence[str]) -> list[bytes]:
    """Return 16 bytes of BLAKE2b over the UTF-8 of each rendered text."""
    return [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]


def kept_name(name: str) -> str:
    """Return the name that a kept column has in a part."""
    return f"corpus_{name}" if name in RESERVED else name


def embedding_type(dim: int) -> pa.DataType:
    """Return the type of the embedding column."""
    return pa.list_(pa.float16(), dim)


def width_in(schema: pa.Schema) -> int:
    """Return the width of the vectors of a schema; 0 where it has none of a fixed one."""
    return getattr(schema.field(EMBEDDING).type, "list_size", 0) if schema.names.count(EMBEDDING) == 1 else 0


def find_fault(schema: pa.Schema, dim: int, *, has_text: bool = False) -> str:
    """Return in words how a schema differs from that of a part with vectors of this width; "" for no difference.

    `has_text`: the part has the passages themselves, too.
    """
    wanted = [*PART, TEXT] if has_text else list(PART)
    if any(
        len(schema.get_all_field_indices(field.name)) != 1 or schema.field(field.name).type != field.type
        for field in wanted
    ):
        return f"expected columns {', '.join(field.name for field in wanted)}, found {', '.join(schema.names)}"
    kind = schema.field(EMBEDDING).type if schema.names.count(EMBEDDING) == 1 else None
    if dim < 1 or kind != embedding_type(dim):
        return f"expected embedding fixed_size_list<float16>[{dim}], found {kind}"
    return ""
