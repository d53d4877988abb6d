"""Strict volumes: a container works on a private copy; only commits and reloads move files between them."""

import asyncio
import errno
import os
import shutil
import stat
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A committed file (its bytes, mode and times are those of `content`, never changed), symlink or folder."""

    content: Path | None = None
    target: str = ""
    mode: int = 0o755

    @property
    def is_folder(self) -> bool:
        return self.content is None and not self.target


COMMITS_AT_ONCE = {1: 5, 2: 100}  # of a volume, by its version
SECOND_NS = 1_000_000_000
Tree = dict[str, Node]
Stamp = tuple[int, ...]


def _scan(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with suppress(FileNotFoundError), os.scandir(folder / above) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # renamed or deleted by the container while we look
                    name = above + entry.name
                    yield name, entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{name}/")


def _stamp(s: os.stat_result) -> Stamp:
    """Return what changes whenever a path's content or mode does."""
    return (s.st_mode,) if stat.S_ISDIR(s.st_mode) else (s.st_mode, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


@dataclass(slots=True, kw_only=True)
class Volume:
    """A named volume: `head` is the last committed state, replaced whole so that a commit is atomic."""

    id: str
    name: str
    version: int
    created_s: float
    store: Path
    max_files: int  # of version 1 in the whole volume, of version 2 in each folder
    head: Tree = field(default_factory=dict)
    committing: asyncio.Semaphore = field(init=False)
    n_committing: int = 0

    def __post_init__(self) -> None:
        self.committing = asyncio.Semaphore(COMMITS_AT_ONCE[self.version])

    def add_file(self, source: Path, mode: int) -> Node:
        """Keep a private, immutable copy of a file's present bytes, dated as Modal's API does: in whole seconds."""
        content = self.store / uuid.uuid4().hex
        shutil.copyfile(source, content)
        content.chmod(mode)
        whole_ns = source.stat().st_mtime_ns // SECOND_NS * SECOND_NS
        os.utime(content, ns=(whole_ns, whole_ns))
        return Node(content=content)

    def publish(self, changed: Tree, removed: set[str]) -> None:
        """Make a new head; raises OSError where that adds to a volume or folder above its limit."""
        kept = {path: node for path, node in self.head.items() if path not in removed}
        folders = {str(parent) for path in changed for parent in PurePosixPath(path).parents} - {"."}
        head = kept | dict.fromkeys(folders, Node()) | changed
        added = head.keys() - self.head.keys()
        sizes = Counter(self._counted_in(path) for path in head)
        full = {where for where, n_files in sizes.items() if n_files > self.max_files}
        if over := next((path for path in sorted(added) if self._counted_in(path) in full), None):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), over)
        self.head = head

    def _counted_in(self, path: str) -> str:
        return path.rpartition("/")[0] if self.version == 2 else ""

    def below(self, path: str, recursive: bool) -> Tree:
        """Return the nodes that a listing of `path` shows: itself if a file, else what it contains."""
        top = PurePosixPath(path.strip("/"))
        if str(top) in self.head and not self.head[str(top)].is_folder:
            return {str(top): self.head[str(top)]}
        inside = {p: n for p, n in self.head.items() if top in PurePosixPath(p).parents}
        if not inside and str(top) not in {".", *self.head}:
            raise FileNotFoundError(f"{path}: no such file or directory in volume {self.name}")
        return {p: n for p, n in inside.items() if recursive or PurePosixPath(p).parent == top}


@dataclass(slots=True, kw_only=True)
class Copy:
    """What one container sees of one volume; `base` is what the volume held when the copy last caught up.

    Its files are in `path`, but for the time of a reload, when the container has an empty folder.
    """

    volume: Volume
    path: Path
    read_only: bool
    base: Tree = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)  # while it is committed or reloaded
    _other: Path = field(init=False)

    def __post_init__(self) -> None:
        self._other = self.path.with_name(f"{self.path.name}.hidden")

    def _changes(self) -> tuple[dict[str, Stamp], set[str]]:
        """Return the stamps of paths that the container wrote, and the paths that it removed."""
        if self.read_only:  # its files are links to the store, whose stamps change with every new link
            return {}, set()
        now = {path: _stamp(s) for path, s in _scan(self.path)}
        changed = {path: stamp for path, stamp in now.items() if self.stamps.get(path) != stamp}
        return changed, self.stamps.keys() - now.keys()

    @property
    def is_changed(self) -> bool:
        return any(self._changes())

    def hide(self) -> None:
        """Let the container see an empty folder."""
        self._other.mkdir()
        self._move(self.path, self._other)
        self.path, self._other = self._other, self.path

    def show(self) -> None:
        """Give the container its files back, beside what it wrote meanwhile."""
        self.path, self._other = self._other, self.path
        self._move(self._other, self.path)
        shutil.rmtree(self._other)

    def _move(self, source: Path, target: Path, below: str = "") -> None:
        """Move what is in a folder into another; to be moved is no change, though it makes a new stamp."""
        for entry in source.iterdir():
            name, there = f"{below}{entry.name}", target / entry.name
            with suppress(FileNotFoundError):  # renamed or deleted by the container while we look
                was = _stamp(entry.lstat())
                if stat.S_ISDIR(was[0]) and there.is_dir():
                    self._move(entry, there, f"{name}/")
                elif not os.path.lexists(there):
                    entry.rename(there)
                    if self.stamps.get(name) == was:
                        self.stamps[name] = _stamp(there.lstat())

    def catch_up(self) -> None:
        """Bring the copy to the volume's last commit, except where the container has changes of its own."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.base is self.volume.head:
            return
        changed, removed = self._changes()
        head, dirty = self.volume.head, changed.keys() | removed
        for path in sorted(self.base.keys() - head.keys() - dirty, reverse=True):
            self._remove(path)
        for path in sorted(head.keys() - dirty):
            if self.base.get(path) != head[path] or path not in self.stamps:
                self._write(path, head[path])
        self.base = head
        known = {path: stamp for path, stamp in self.stamps.items() if path in dirty}
        self.stamps = known | {path: _stamp(s) for path, s in _scan(self.path) if path not in dirty}

    def commit(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Publish the container's changes in one step and return the changed and the removed paths."""
        changed, removed = self._changes()
        nodes: Tree = {}
        for path in changed:
            try:
                nodes[path] = self._read(path)
            except FileNotFoundError:  # a temporary file that the container renamed meanwhile
                continue
        alone = self.base is self.volume.head
        self.volume.publish(nodes, removed)
        self.base = self.volume.head if alone else {p: n for p, n in self.base.items() if p not in removed} | nodes
        self.stamps = {p: s for p, s in self.stamps.items() if p not in removed} | {p: changed[p] for p in nodes}
        return tuple(sorted(nodes)), tuple(sorted(removed))

    def holds(self, inodes: set[tuple[int, int]]) -> str | None:
        """Return the first path of the copy that is among the given open files, if any."""
        top = self.path.lstat()
        if not any(device == top.st_dev for device, _ in inodes):
            return None
        here = [(".", top), *_scan(self.path)]
        return next((path for path, s in here if (s.st_dev, s.st_ino) in inodes), None)

    def _read(self, path: str) -> Node:
        source = self.path / path
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            return Node(target=str(source.readlink()))
        if stat.S_ISDIR(mode):
            return Node(mode=stat.S_IMODE(mode))
        return self.volume.add_file(source, stat.S_IMODE(mode))

    def _remove(self, path: str) -> None:
        target = self.path / path
        if not target.is_dir() or target.is_symlink():
            target.unlink(missing_ok=True)
        elif not any(target.iterdir()):
            target.rmdir()

    def _write(self, path: str, node: Node) -> None:
        target = self.path / path
        if node.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            target.chmod(node.mode)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{uuid.uuid4().hex}")
        if node.content is None:
            fresh.symlink_to(node.target)
        elif self.read_only:
            fresh.hardlink_to(node.content)
        else:
            shutil.copy2(node.content, fresh)
        fresh.replace(target)
