"""Strict volumes: a container works on a private copy; only commits and reloads move files between them."""

import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A committed file (its bytes lie in `content`, never changed), folder, or symlink (`target`)."""

    content: Path | None = None
    target: str = ""
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 0

    @property
    def is_folder(self) -> bool:
        return self.content is None and not self.target


Tree = dict[str, Node]
Stamp = tuple[int, int, int, int, int]


def _scan(folder: Path, prefix: str = "") -> Iterator[tuple[str, Stamp]]:
    """Yield every path below a folder with a stamp that changes whenever its content or mode does."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                s = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # renamed or deleted by the container while we look
                continue
            path = prefix + entry.name
            if stat.S_ISDIR(s.st_mode):
                yield path, (s.st_mode, 0, 0, 0, 0)
                yield from _scan(Path(entry.path), path + "/")
            else:
                yield path, (s.st_mode, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


@dataclass(slots=True, kw_only=True)
class Volume:
    """A named volume: `head` is the last committed state, replaced whole so that a commit is atomic."""

    id: str
    name: str
    version: int
    created_s: float
    store: Path
    head: Tree = field(default_factory=dict)

    def add_file(self, source: Path, mode: int = 0o644) -> Node:
        """Keep a private, immutable copy of a file's present bytes."""
        content = self.store / uuid.uuid4().hex
        shutil.copyfile(source, content)
        s = source.stat()
        return Node(content=content, size=content.stat().st_size, mode=mode, mtime_ns=s.st_mtime_ns)

    def publish(self, changed: Tree, removed: set[str]) -> None:
        kept = {path: node for path, node in self.head.items() if path not in removed}
        self.head = kept | _with_parents(changed)

    def below(self, path: str, recursive: bool) -> Tree:
        """Return the nodes that a listing of `path` shows: itself if a file, else what it contains."""
        prefix = path.strip("/")
        node = self.head.get(prefix)
        if node is not None and not node.is_folder:
            return {prefix: node}
        inside = {p: n for p, n in self.head.items() if not prefix or p.startswith(prefix + "/")}
        if node is None and prefix and not inside:
            raise FileNotFoundError(f"{path}: no such file or directory in volume {self.name}")
        depth = len(PurePosixPath(prefix).parts) + 1
        return {p: n for p, n in inside.items() if recursive or len(PurePosixPath(p).parts) == depth}


def _with_parents(tree: Tree) -> Tree:
    folders = {str(parent) for path in tree for parent in PurePosixPath(path).parents} - {"."}
    return {folder: Node(mode=0o755) for folder in folders} | tree


@dataclass(slots=True, kw_only=True)
class Copy:
    """What one container sees of one volume; `base` is what the volume held when the copy last caught up."""

    volume: Volume
    path: Path
    read_only: bool
    base: Tree = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)

    def local_changes(self) -> tuple[dict[str, Stamp], set[str]]:
        """Return the stamps of paths that the container wrote, and the paths that it removed."""
        if self.read_only:  # its files are links to the store, whose stamps change with every new link
            return {}, set()
        now = dict(_scan(self.path))
        changed = {path: stamp for path, stamp in now.items() if self.stamps.get(path) != stamp}
        return changed, self.stamps.keys() - now.keys()

    def catch_up(self) -> None:
        """Bring the copy to the volume's last commit, except where the container has changes of its own."""
        self.path.mkdir(parents=True, exist_ok=True)
        changed, removed = self.local_changes()
        head = self.volume.head
        dirty = changed.keys() | removed
        for path in sorted(self.base.keys() - head.keys() - dirty, reverse=True):
            self._remove(path)
        for path in sorted(head.keys() - dirty):
            if self.base.get(path) != head[path] or path not in self.stamps:
                self._write(path, head[path])
        self.base = dict(head)
        now = dict(_scan(self.path))
        self.stamps = {path: self.stamps[path] for path in dirty & self.stamps.keys()} | {
            path: stamp for path, stamp in now.items() if path not in dirty
        }

    def commit(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Publish the container's changes in one step and return the changed and the removed paths."""
        changed, removed = self.local_changes()
        nodes: Tree = {}
        for path in changed:
            source = self.path / path
            try:
                nodes[path] = self._read(source)
            except FileNotFoundError:  # a temporary file that the container renamed meanwhile
                continue
        self.volume.publish(nodes, removed)
        self.base = {p: n for p, n in self.base.items() if p not in removed} | nodes
        self.stamps = {p: s for p, s in self.stamps.items() if p not in removed}
        self.stamps |= {path: changed[path] for path in nodes}
        return tuple(sorted(nodes)), tuple(sorted(removed))

    def holds(self, inodes: set[tuple[int, int]]) -> str | None:
        """Return the first path of the copy that is among the given open files, if any."""
        for path in ["", *(path for path, _ in _scan(self.path))]:
            try:
                s = (self.path / path).lstat()
            except FileNotFoundError:  # renamed or deleted by the container while we look
                continue
            if (s.st_dev, s.st_ino) in inodes:
                return path or "."
        return None

    def _read(self, source: Path) -> Node:
        s = source.lstat()
        mode = stat.S_IMODE(s.st_mode)
        if stat.S_ISLNK(s.st_mode):
            return Node(target=os.readlink(source))
        if stat.S_ISDIR(s.st_mode):
            return Node(mode=mode)
        return self.volume.add_file(source, mode)

    def _remove(self, path: str) -> None:
        target = self.path / path
        if target.is_dir() and not target.is_symlink():
            if not any(target.iterdir()):
                target.rmdir()
        else:
            target.unlink(missing_ok=True)

    def _write(self, path: str, node: Node) -> None:
        target = self.path / path
        if node.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            target.chmod(node.mode)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{uuid.uuid4().hex}")
        if node.target:
            fresh.symlink_to(node.target)
        elif node.content is not None and self.read_only:
            os.link(node.content, fresh)
        elif node.content is not None:
            shutil.copyfile(node.content, fresh)
            fresh.chmod(node.mode)
            os.utime(fresh, ns=(node.mtime_ns, node.mtime_ns))
        fresh.replace(target)
