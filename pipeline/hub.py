"""The Hugging Face hub: what was downloaded is what the hub says."""

from __future__ import annotations

from typing import Any

from huggingface_hub import HfApi


def remove_damaged(name: str, commit: str, **of_repository: Any) -> str:
    """Compare every downloaded file of a commit with the hub's hash: SHA-256, or git's SHA-1 of a small file.

    A file that differs is removed, so that the next download fetches it again. Returns what is wrong with the first
    of them, "" with none. Raises what the hub's client raises.
    """
    found = HfApi().verify_repo_checksums(name, revision=commit, **of_repository)
    for mismatch in found.mismatches:
        path = found.verified_path / mismatch["path"]
        path.resolve().unlink(missing_ok=True)  # one content may have several names
        path.unlink(missing_ok=True)
    if not found.mismatches:
        return ""
    first = found.mismatches[0]
    return (
        f"expected {first['path']} with {first['algorithm']} {first['expected']}, found {first['actual']}; removed it"
    )
