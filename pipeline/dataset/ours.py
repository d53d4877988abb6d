"""Whose a file is: a run changes, moves and deletes what a run made, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.dataset.card import is_ours as is_our_card
from pipeline.dataset.layout import ATTEMPTS, FOLDERS, NEXT, PROGRESS, TRASH, check_layout, staged
from pipeline.dataset.lock import NAME
from pipeline.dataset.manifest import fold
from pipeline.dataset.store import Store
from pipeline.errors import UsageError
from pipeline.files import is_file, kind_of, move_file, names_in, open_file, remove_file, sync_folder, writing

PART = r"part-\w+-\d{10,}-[0-9a-f]{16}\.parquet"  # see Chunk.part_name
PART_NAME = re.compile(PART, re.ASCII)
TEMPORARY = re.compile(rf"\.({PART}|manifest\.jsonl|README\.md|report\.html)\.\d+\.tmp", re.ASCII)
REPORT = "report.html"
REPORT_MARK = "<!-- made by embed-corpus report -->"  # its second line: one without is not ours to replace
BESIDE = {NEXT, NAME, PROGRESS, ATTEMPTS, TRASH}
OF_THE_SYSTEM = {"lost+found", ".DS_Store"}  # in a folder that a person takes for empty


def output_folder(named: str) -> Path:
    """Return the folder that a flag names; raises UsageError for nothing and for an address such as s3://…"""
    if not named.strip():
        raise UsageError("--output: expected the name of a folder, found nothing")
    if re.match(r"[A-Za-z][\w+.-]*://", named):
        raise UsageError(
            f"--output {named}: expected a folder of this machine, found an address; copy it there afterwards"
        )
    return Path(named)


def is_dataset(store: Store) -> bool:
    """Whether a run made a folder: its manifest, a part or its card says so; raises DamageError for a manifest that
    cannot be read."""
    if any(not fold([line]).n_unreadable for line in store.manifest_lines()):
        return True
    return is_our_card(store.root / "README.md") or any(store.has_receipt(part) for part in store.part_sizes())


def check_ours(store: Store) -> None:
    """Raise UsageError unless a folder is new, empty, or one that a run made and that has no links in it."""
    foreign = [] if is_dataset(store) else list(_foreign_entries(store))
    if foreign:
        raise UsageError(
            f"output {store.root}: expected a new folder, an empty one or a dataset of embed-corpus, found "
            f"{', '.join(foreign[:3])}; nothing was touched, choose another --output"
        )
    check_layout(store.root, UsageError)


def report_path(store: Store) -> Path:
    """Return where the report of a dataset goes; raises UsageError for a file there that no `report` made."""
    path = store.root / REPORT
    if kind_of(path) and not is_our_report(path):
        raise UsageError(
            f"{path}: expected nothing there or a report of embed-corpus, found {kind_of(path)} of someone else; "
            "nothing was touched, move it away"
        )
    return path


def is_our_report(path: Path) -> bool:
    """Whether a file is a report that we made, by its name and its marker."""
    if path.name != REPORT or not is_file(path):
        return False
    with open_file(path) as file:
        return REPORT_MARK.encode() in file.read(200).splitlines()[1:2]


def foreign_files(store: Store, parts: Collection[str]) -> list[str]:
    """Return the files among the parts of a dataset that no run made, by their paths below it; `parts` are ours."""
    return [
        f"{folder}/{name}"
        for folder in FOLDERS
        for name in names_in(store.root / folder)
        if name not in parts and not name.startswith(".") and not PART_NAME.fullmatch(name)
        if folder != "data" or not store.has_receipt(name)
    ]


def discard(store: Store, part: str) -> None:
    """Move a part and its rejects into the trash, where they take the place of nothing; raises OutputError."""
    for folder in FOLDERS:
        discard_file(store, f"{folder}/{part}")


def discard_file(store: Store, name: str) -> None:
    """Move a file, by its path below the output, into the trash if it is there; raises OutputError."""
    path, to = store.root / name, store.root / TRASH / name
    if not kind_of(path):
        return
    store.volume.check_held()
    with writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    taken = set(names_in(to.parent))
    names = (f"{to.name}{f'.{n}' if n else ''}" for n in range(len(taken) + 1))
    move_file(path, to.with_name(next(free for free in names if free not in taken)))
    sync_folder(path.parent)


def sweep(store: Store) -> None:
    """Remove what a crash left behind: temporary files, and rejects whose part was never published."""
    store.volume.check_held()
    for path in temporaries(store):
        remove_file(path)
    for name in names_in(store.root / "rejects"):
        if PART_NAME.fullmatch(name) and not store.data_path(name).exists():
            remove_file(store.rejects_path(name))
    for recipe in staged(store.root):
        sweep(store.staging(recipe))


def temporaries(store: Store) -> list[Path]:
    """Return the files that were being written when a run was stopped, or are at this moment."""
    folders = (store.root, *(store.root / folder for folder in FOLDERS))
    return [folder / name for folder in folders for name in names_in(folder) if TEMPORARY.fullmatch(name)]


def _foreign_entries(store: Store) -> Iterator[str]:
    for name in names_in(store.root):
        if name in FOLDERS:
            known = (PART_NAME, TEMPORARY)
            inside = names_in(store.root / name) if kind_of(store.root / name) == "a folder" else [""]
            yield from (f"{name}/{each}" for each in inside if not any(kind.fullmatch(each) for kind in known))
        elif (
            name not in BESIDE | OF_THE_SYSTEM
            and not TEMPORARY.fullmatch(name)
            and not is_our_report(store.root / name)
        ):
            yield name
