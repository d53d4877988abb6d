"""The key of the HTTP server: read from a file or a variable, and handed on as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import UsageError

KEY_VARIABLE = "VLLM_API_KEY"


def read_key(file: Path | None, environment: Mapping[str, str]) -> str:
    """Return the key that a file holds, or else the variable VLLM_API_KEY.

    Raises UsageError, which does not show it, when there is none or a header cannot hold it.
    """
    where = f"key file {file}" if file else f"variable {KEY_VARIABLE}"
    try:
        key = (file.read_text() if file else environment.get(KEY_VARIABLE, "")).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are no text"
        raise UsageError(f"{where}: expected a readable file with the key, found {reason}") from None
    if not key:
        raise UsageError(
            f"{where}: expected a key, found none; give one with --api-key-file or say --no-auth, "
            "and on Modal deploy with EMBED_HTTP=1"
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(f"{where}: expected one line of printable ASCII without spaces, found something else")
    return key


def digest(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
