"""Place: where an export goes, as a whole or not at all, and whose the file or folder is that it replaces."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.dataset import NAME, flock
from pipeline.errors import UsageError
from pipeline.files import UNREADABLE, is_file, kind_of, names_in, read_file, sync_folder, writing

KEY = b"embed_corpus.export"  # in the metadata of a Parquet file
ABOUT = "export.json"  # in a folder
MADE_BY = "embed-corpus export"
NEW, OLD = "new", "old"


def about_in(path: Path) -> dict[str, Any]:
    """Return what the export at a path says of itself; nothing where there is none."""
    try:
        if kind_of(path) == "a folder":
            found = json.loads(read_file(path / ABOUT))
        else:
            found = json.loads((pq.read_schema(path).metadata or {})[KEY]) if is_file(path) else {}
    except (*UNREADABLE, KeyError):
        return {}
    return found if isinstance(found, dict) and found.get("made_by") == MADE_BY else {}


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write into the folder of an export what it says of itself."""
    text = json.dumps(about | {"files": names_in(folder)}, indent=2)
    (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def published(destination: Path) -> Iterator[Path]:
    """Yield a path for a file or a folder, which on leaving without an error takes the place of an earlier export.

    It is in a folder beside the destination, which the next export clears if a crash leaves it there. Raises UsageError
    for a destination that is no export, OutputLockedError where another one is written there, and OutputError.
    """
    about = about_in(destination)
    others = set(names_in(destination)) - {ABOUT, *about.get("files", ())}
    if kind_of(destination) and (not about or others):
        found = f"other files in it, such as {min(others)}" if others else kind_of(destination)
        raise UsageError(
            f"export {destination}: expected nothing there or an earlier export, found {found}; nothing was touched, "
            "choose another DEST"
        )
    destination = destination.resolve()
    work = destination.with_name(f".{destination.name}.export")
    if kind_of(work) and set(names_in(work)) - {NAME, NEW, OLD}:
        raise UsageError(f"export {destination}: expected {work} for what is being written, found other files in it")
    with writing(destination):
        work.mkdir(parents=True, exist_ok=True)
        with flock(work):
            try:
                _clear(work)
                yield work / NEW
                _sync(work / NEW)
                if kind_of(destination) and not (is_file(work / NEW) and is_file(destination)):
                    destination.rename(work / OLD)  # a folder takes the place of nothing but an empty one
                (work / NEW).replace(destination)
                sync_folder(destination.parent)
            finally:
                _clear(work)
                (work / NAME).unlink()
                work.rmdir()


def _clear(work: Path) -> None:
    for path in (work / NEW, work / OLD):
        if kind_of(path) == "a folder":
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make durable a file, or a folder with all that is in it."""
    for name in names_in(path):
        _sync(path / name)
    sync_folder(path)  # what makes a folder durable does so with a file
