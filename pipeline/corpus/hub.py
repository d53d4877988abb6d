"""Data sets of the Hugging Face hub: a branch becomes a commit once, and a commit the files of it that are read."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from pipeline.console import count, note, size
from pipeline.corpus.inputs import Input, each_of
from pipeline.errors import CorpusError, UsageError

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.*?))?/*")
EXPECTED = "hf://datasets/OWNER/NAME[@REVISION][/PATH]"
CACHE_VARIABLE = "EMBED_HUB_CACHE"  # a folder for the files of data sets, other than the cache of the hub's client


class Address(NamedTuple):
    """What an address of the hub names."""

    name: str  # OWNER/NAME
    revision: str
    path: str  # "" = all of it


def pinned(input: Input) -> Input:
    """Return an address of the hub with the commit that its branch or tag has now, any other input as it is.

    Where the hub is out of reach, it is the commit of the last time. Raises UsageError for an address of another form
    and CorpusError for a data set that is not there.
    """
    place = each_of(input)[0]
    return _pinned(place) if place.startswith(SCHEME) else input


def _pinned(input: str) -> str:
    from huggingface_hub import HfApi

    name, revision, path = address_of(input)
    with _in_one_line(input):
        commit = HfApi().resolve_revision(name, revision=revision, **_place()).resolved
    return f"{SCHEME}datasets/{name}@{commit}{path and f'/{path}'}"


def fetched(input: str, endings: Sequence[str]) -> str:
    """Return the place on this machine of what an address of the hub names, any other input as it is.

    Downloads what is not there yet, of files with these endings alone, into the cache of the hub's client or into the
    folder of CACHE_VARIABLE, and holds it against the hub's hashes. Raises as `pinned` does.
    """
    if not input.startswith(SCHEME):
        return input
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    input = _pinned(input)
    name, commit, path = address_of(input)
    wanted = {
        "revision": commit,
        "allow_patterns": [*(f"{path and f'{path}/'}*{ending}" for ending in endings), path],
        **_place(),
    }
    disable_progress_bars()
    unverified = _cache() / f"datasets--{name.replace('/', '--')}" / f".unverified-{commit}"
    with _in_one_line(input):
        waiting = [file for file in snapshot_download(name, dry_run=True, **wanted) if file.will_download]
        if waiting:
            n_bytes = sum(file.file_size or 0 for file in waiting)
            note(f"input {input}: fetching {count(len(waiting), 'file')} of {size(n_bytes)}")
            unverified.parent.mkdir(parents=True, exist_ok=True)
            unverified.touch()  # stays where this process dies before it has looked
        folder = Path(snapshot_download(name, **wanted))
    if unverified.exists():
        _verify(input)
        unverified.unlink()
    return str(folder / path)


def _cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(os.environ.get(CACHE_VARIABLE) or HF_HUB_CACHE)


def _verify(input: str) -> None:
    """Hold the files of a commit that are here against the hub's hashes; raises CorpusError for one that differs."""
    from pipeline.hub import remove_damaged

    name, commit, _ = address_of(input)
    with _in_one_line(input):
        wrong = remove_damaged(name, commit, **_place())
    if wrong:
        raise CorpusError(f"input {input}: {wrong}: run again")


def _place() -> dict[str, Any]:
    """Return what each call of the hub's client is given: that it is of a data set, and where its files are."""
    return {"repo_type": "dataset", "cache_dir": _cache()}


def address_of(input: str) -> Address:
    """Return the parts of an address of the hub; raises UsageError for one of another form."""
    found = ADDRESS.fullmatch(input)
    if found is None or ".." in (found[3] or "").split("/"):
        raise UsageError(f"--input {input}: expected {EXPECTED}, found another address of the hub")
    return Address(found[1], unquote(found[2] or "main"), found[3] or "")


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
    except errors.DryRunError as error:
        raise CorpusError(
            f"input {input}: expected the hub within reach, or a cache that knows which files there are, found neither"
        ) from error
    except Exception as error:
        raise CorpusError(f"input {input}: not available from the hub: {str(error).splitlines()[0]}") from error
