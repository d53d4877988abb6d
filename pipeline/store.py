"""The output folder: where parts are published, the manifest is kept and another run is locked out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, UsageError
from pipeline.lock import Hold, flock, is_flocked
from pipeline.manifest import Line, Manifest, Receipt, fold, format_line, parse_receipt

NEXT = ".next"  # below the output: what waits for the swap, a folder for each recipe
RECEIPT_KEY = b"embed_corpus.receipt"
RECIPE_KEY = b"embed_corpus.recipe"
ROW_GROUP_BYTES = 2 << 20  # the writer needs about ten times this


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An output folder, and what a place such as a Modal volume asks for beyond files.

    `commit` makes what was written durable and seen elsewhere, `refresh` shows what others have committed, `hold`
    keeps other runs out. A commit may need every file of the output closed, so no thread writes during one.
    """

    root: Path
    commit: Callable[[], None] = lambda: None
    refresh: Callable[[], None] = lambda: None
    hold: Hold = flock
    writing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def manifest_path(self) -> Path:
        """Where the manifest lies."""
        return self.root / "manifest.jsonl"

    def data_path(self, part: str) -> Path:
        """Where a part lies."""
        return self.root / "data" / part

    def rejects_path(self, part: str) -> Path:
        """Where the rejected rows of a part's chunk lie."""
        return self.root / "rejects" / part

    def staging(self, fingerprint: str) -> Store:
        """Return the folder where the parts of a recipe wait for the swap; it is laid out like an output."""
        return replace(self, root=self.root / NEXT / fingerprint)

    def publish(self, receipt: Receipt, table: pa.Table, rejects: pa.Table | None, recipe: str) -> Receipt:
        """Write a part and its rejects so that each is there whole or not at all, and return the completed receipt.

        The rejects come first: a part that is there proves that everything of its chunk is.
        """
        footer = {RECEIPT_KEY: format_line(receipt).strip(), RECIPE_KEY: recipe.encode()}
        with self.writing:  # encoding too: it is what takes most memory, and one at a time takes half
            if rejects is not None:
                _publish(self.rejects_path(receipt.part), _parquet(rejects))
            data = _parquet(table.replace_schema_metadata(footer))
            _publish(self.data_path(receipt.part), data)
            self.commit()
        return msgspec.structs.replace(receipt, size_bytes=data.size, checksum=checksum(data))

    def read_manifest(self) -> Manifest:
        """Return the folded manifest; an empty one where there is no file."""
        try:
            with self.manifest_path.open("rb") as file:
                return fold(file)
        except FileNotFoundError:
            return Manifest()

    def rewrite_manifest(self, lines: Iterable[Line]) -> None:
        """Replace the manifest as a whole; the caller commits."""
        _publish(self.manifest_path, pa.py_buffer(b"".join(map(format_line, lines))))

    def write_text(self, name: str, text: str) -> None:
        """Replace a small file of the output unless it already says the same."""
        path, data = self.root / name, text.encode()
        if not (path.exists() and path.read_bytes() == data):
            _publish(path, pa.py_buffer(data))

    def append(self, line: Line) -> None:
        """Add one line to the manifest, durably."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.manifest_path.open("ab") as file:
            file.write(format_line(line))
            file.flush()
            os.fsync(file.fileno())

    def part_sizes(self) -> dict[str, int]:
        """Return the names and bytes of the published parts."""
        try:
            with os.scandir(self.root / "data") as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".parquet")}
        except FileNotFoundError:
            return {}

    def receipt_of(self, part: str) -> Receipt | None:
        """Return the completed receipt in a part's footer; None when the file is not a whole part of ours."""
        path = self.data_path(part)
        try:
            receipt = parse_receipt(self._footer(part)[RECEIPT_KEY])
        except (OSError, KeyError, pa.ArrowException, msgspec.MsgspecError):
            return None
        if receipt.part != part or not self.has_rejects_of(receipt):
            return None
        with path.open("rb") as file:
            data = pa.py_buffer(file.read())
        return msgspec.structs.replace(receipt, size_bytes=data.size, checksum=checksum(data))

    def has_rejects_of(self, receipt: Receipt) -> bool:
        """Whether the rejects of a part are there if it has any; a copy of a run at work may lack them."""
        return not receipt.has_rejects or self.rejects_path(receipt.part).exists()

    def take_in(self, staging: Store, part: str) -> None:
        """Move a staged part in; its rejects are copied before, so that it is whole in either place."""
        rejects = staging.rejects_path(part)
        if rejects.exists():
            _publish(self.rejects_path(part), pa.py_buffer(rejects.read_bytes()))
        staging.data_path(part).replace(self.data_path(part))

    def lay_ready(self, chunk_id: str, vectors: pa.Table) -> None:
        """Keep vectors for a chunk until it is embedded."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, vectors.schema) as writer:
            writer.write_table(vectors)
        _publish(self._ready_path(chunk_id), sink.getvalue())

    def ready(self, chunk_id: str) -> pa.Table:
        """Return the vectors that were kept for a chunk; raises CorpusError when they are not seen here (yet)."""
        path = self._ready_path(chunk_id)
        with self.writing:  # an open file would be in the way of a commit
            try:
                return pa.ipc.open_file(path.read_bytes()).read_all()
            except FileNotFoundError as error:
                raise CorpusError(
                    f"{path}: expected the vectors that the run laid ready, found none; run again"
                ) from error

    def _ready_path(self, chunk_id: str) -> Path:
        return self.root / "ready" / f"{chunk_id}.arrow"

    def republish(self, part: str) -> Receipt | None:
        """Return the receipt of a part that is already there, made durable once more; None where there is none."""
        with self.writing:
            receipt = self.receipt_of(part)
            if receipt is not None:
                self.commit()
        return receipt

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe in a part's footer."""
        recipe: dict[str, Any] = json.loads(self._footer(part)[RECIPE_KEY])
        return recipe

    def _footer(self, part: str) -> dict[bytes, bytes]:
        footer: dict[bytes, bytes] = pq.read_metadata(self.data_path(part)).metadata or {}
        return footer

    def remove(self, part: str) -> None:
        """Remove a part that the manifest does not name, and its rejects."""
        self.data_path(part).unlink(missing_ok=True)
        self.rejects_path(part).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the output for one run; raises OutputLockedError naming the holder."""
        for folder in (self.root / "data", self.root / "rejects"):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"output {folder}: cannot be made: {error.strerror}; choose another --output"
                ) from error
        with self.hold(self.root):
            yield

    def is_locked(self) -> bool:
        """Whether a run holds the output at this moment."""
        return is_flocked(self.root)

    def sweep(self) -> None:
        """Remove what a crash left behind: temporary files, and rejects whose part was never published."""
        for folder in (self.root, self.root / "data", self.root / "rejects"):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)
        for path in (self.root / "rejects").glob("*.parquet"):
            if not self.data_path(path.name).exists():
                path.unlink(missing_ok=True)
        for staging in (self.root / NEXT).glob("*"):
            replace(self, root=staging).sweep()


def checksum(data: pa.Buffer) -> str:
    """Return 32 hex digits over the bytes of a file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _parquet(table: pa.Table) -> pa.Buffer:
    rows = max(1, ROW_GROUP_BYTES * max(1, len(table)) // max(1, table.nbytes))
    plain = [name for name in table.column_names if name != "embedding"]
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=plain, row_group_size=rows, write_page_checksum=True)
    return sink.getvalue()


def _publish(path: Path, data: pa.Buffer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make what was renamed into or out of a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
