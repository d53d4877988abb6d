"""Data sets of the Hugging Face hub: a branch becomes a commit once, and a commit the files of it that are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from pipeline.console import note
from pipeline.corpus.inputs import Input, each_of
from pipeline.errors import CorpusError, UsageError

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.*?))?/*")
EXPECTED = "hf://datasets/OWNER/NAME[@REVISION][/PATH]"


def pinned(input: Input) -> Input:
    """Return an address of the hub with the commit that its branch or tag has now, any other input as it is.

    Where the hub is out of reach, it is the commit of the last time. Raises UsageError for an address of another form
    and CorpusError for a data set that is not there.
    """
    place = each_of(input)[0]
    return _pinned(place) if place.startswith(SCHEME) else input


def _pinned(input: str) -> str:
    from huggingface_hub import HfApi

    name, revision, path = _parts(input)
    with _in_one_line(input):
        commit = HfApi().resolve_revision(name, repo_type="dataset", revision=revision).resolved
    return f"{SCHEME}datasets/{name}@{commit}{path and f'/{path}'}"


def fetched(input: str, endings: Sequence[str]) -> str:
    """Return the place on this machine of what an address of the hub names, any other input as it is.

    Downloads into the cache of the hub's client what is not there yet, of files with these endings alone. Raises as
    `pinned` does.
    """
    if not input.startswith(SCHEME):
        return input
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    input = _pinned(input)
    name, commit, path = _parts(input)
    below = [f"{path and f'{path}/'}*{ending}" for ending in endings]
    note(f"input {input}: fetching what is not on this machine yet")
    disable_progress_bars()
    with _in_one_line(input):
        folder = Path(snapshot_download(name, repo_type="dataset", revision=commit, allow_patterns=[*below, path]))
    return str(folder / path)


def _parts(input: str) -> tuple[str, str, str]:
    found = ADDRESS.fullmatch(input)
    if found is None or ".." in (found[3] or "").split("/"):
        raise UsageError(f"--input {input}: expected {EXPECTED}, found another address of the hub")
    return found[1], unquote(found[2] or "main"), found[3] or ""


@contextlib.contextmanager
def _in_one_line(input: str) -> Iterator[None]:
    """Turn what the hub's client raises into a CorpusError that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise CorpusError(
            f"input {input}: gated; expected the token of an account with access in HF_TOKEN: accept the terms on the "
            "hub's page of the data set, then make a token at https://huggingface.co/settings/tokens"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CorpusError(
            f"input {input}: expected a data set of the hub, found none of that name, or one that HF_TOKEN may not see"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CorpusError(f"input {input}: expected a revision of the data set, found none of that name") from error
    except Exception as error:
        raise CorpusError(f"input {input}: not available from the hub: {str(error).splitlines()[0]}") from error
