"""The output folder: where parts are published, the manifest is kept and another run is locked out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.footer import RECEIPT_KEY, RECIPE_KEY, proven_receipt_in, receipt_in, recipe_in
from pipeline.dataset.layout import NEXT, check_layout
from pipeline.dataset.manifest import Line, Manifest, Receipt, fold, format_line
from pipeline.dataset.volume import LocalVolume, Volume
from pipeline.errors import DamageError, PipelineError, UsageError
from pipeline.files import (
    append_file,
    checksum,
    file_checksum,
    is_file,
    kind_of,
    open_file,
    publish_file,
    remove_file,
)

ROW_GROUP_BYTES = 2 << 20  # the writer needs about ten times this


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An output folder, and the volume that it is on.

    Whatever writes raises OutputLockedError, before it does, where another run has taken over the output that this one
    holds. Whatever opens a file follows no link.
    """

    root: Path
    volume: Volume = field(default_factory=LocalVolume, repr=False, compare=False)
    commits: bool = True  # whether each part is made durable when it is published

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.root / "manifest.jsonl"

    def data_path(self, part: str) -> Path:
        """Path of a part."""
        return self.root / "data" / part

    def rejects_path(self, part: str) -> Path:
        """Path of the rejected rows of a part's chunk."""
        return self.root / "rejects" / part

    def staging(self, fingerprint: str) -> Store:
        """Return the folder where the parts of a recipe wait for the swap; it has the layout of an output."""
        return replace(self, root=self.root / NEXT / fingerprint)

    def without_commits(self) -> Store:
        """Return a store of the same folder for many parts, which one commit of this store then makes durable."""
        return replace(self, commits=False)

    def commit(self) -> None:
        """Make what was written durable, and visible elsewhere."""
        with self.volume.writing:
            self.volume.check_held()
            self.volume.commit()

    def reload(self) -> None:
        """Show what others have committed; no file of the volume may be open."""
        with self.volume.writing:
            self.volume.reload()

    def publish(self, receipt: Receipt, table: pa.Table, rejects: pa.Table | None, recipe: str) -> Receipt:
        """Write a part and its rejects so that each is there whole or not at all, and return the completed receipt.

        The rejects come first: a part that is there proves that everything of its chunk is.
        """
        with self.volume.writing:  # encoding too: it is what takes most memory, and one at a time takes half
            self.volume.check_held()
            if rejects is not None:
                rejected = _parquet(rejects)
                receipt = msgspec.structs.replace(receipt, rejects_checksum=checksum(rejected))
                publish_file(self.rejects_path(receipt.part), rejected, self.volume.check_held)
            else:
                remove_file(self.rejects_path(receipt.part))
            footer = {RECEIPT_KEY: format_line(receipt).strip(), RECIPE_KEY: recipe.encode()}
            data = _parquet(table.replace_schema_metadata(footer))
            publish_file(self.data_path(receipt.part), data, self.volume.check_held)
            if self.commits:
                self.volume.commit()
        return msgspec.structs.replace(receipt, size_bytes=data.size, checksum=checksum(data))

    def read_recipe(self) -> dict[str, Any] | None:
        """Return the recipe of the dataset: of the manifest, else of its first sound part; None where there is none.

        Raises DamageError as `read_manifest` does.
        """
        for line in self.manifest_lines():
            if (dataset := fold([line]).dataset) is not None:
                return dataset.recipe
        sound = (part for part in sorted(self.part_sizes()) if self.receipt_of(part) is not None)
        return next(map(self.recipe_of, sound), None)

    def read_manifest(self) -> Manifest:
        """Return the folded manifest; an empty one where there is no file.

        Raises DamageError when there is one that cannot be read.
        """
        return fold(self.manifest_lines())

    def manifest_lines(self) -> Iterator[bytes]:
        """Yield the lines of the manifest, none where there is no file; raises DamageError as `read_manifest` does."""
        try:
            with open_file(self.manifest_path) as file:
                yield from file
        except FileNotFoundError:
            return
        except OSError as error:
            raise DamageError(
                f"{self.manifest_path}: expected a file that can be read, found: {error.strerror}; "
                "move it away and run again: the parts say what they are"
            ) from error

    def rewrite_manifest(self, lines: Iterable[Line]) -> None:
        """Replace the manifest as a whole; the caller commits."""
        publish_file(self.manifest_path, pa.py_buffer(b"".join(map(format_line, lines))), self.volume.check_held)

    def append(self, line: Line) -> None:
        """Add one line to the manifest, durably."""
        append_file(self.manifest_path, format_line(line), self.volume.check_held)

    def part_sizes(self) -> dict[str, int]:
        """Return the names and bytes of the published parts; -1 for what has such a name and is no file."""
        if kind_of(self.root / "data") != "a folder":
            return {}
        with os.scandir(self.root / "data") as entries:
            return {
                entry.name: entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else -1
                for entry in entries
                if entry.name.endswith(".parquet")
            }

    def receipt_of(self, part: str) -> Receipt | None:
        """Return the completed receipt in a part's footer; None when the file is not a part of ours, whole, with its
        rejects."""
        path, receipt = self.data_path(part), proven_receipt_in(self.data_path(part))
        try:
            if receipt is None or (
                receipt.has_rejects and receipt.rejects_checksum != file_checksum(self.rejects_path(part))
            ):
                return None
            return msgspec.structs.replace(receipt, size_bytes=path.stat().st_size, checksum=file_checksum(path))
        except OSError:
            return None

    def has_receipt(self, name: str) -> bool:
        """Whether a file in data/ has a receipt in its footer, whatever its name is."""
        return receipt_in(self.data_path(name)) is not None

    def has_rejects_of(self, receipt: Receipt) -> bool:
        """Whether the rejects of a part are there if it has any; a copy of a run at work may lack them."""
        return not receipt.has_rejects or is_file(self.rejects_path(receipt.part))

    def republish(self, part: str) -> Receipt | None:
        """Return the receipt of a part that is already there, made durable once more; None where there is none."""
        if not is_file(self.data_path(part)):
            return None  # without waiting for what another chunk writes
        with self.volume.writing:
            receipt = self.receipt_of(part)
            if receipt is not None and self.commits:
                self.volume.commit()
        return receipt

    def recipe_of(self, part: str) -> dict[str, Any]:
        """Return the recipe in a part's footer; an empty one where there is none."""
        return recipe_in(self.data_path(part))

    def remove(self, part: str) -> None:
        """Remove a part that the manifest does not name, and its rejects."""
        self.volume.check_held()
        remove_file(self.data_path(part))
        remove_file(self.rejects_path(part))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the output for one run; raises OutputLockedError naming the holder, also at the end if it is another.

        Leaving waits until no part is half published. Raises UsageError for an output with a link in it.
        """
        check_layout(self.root, UsageError)
        with contextlib.ExitStack() as held:
            try:
                for folder in (self.root / "data", self.root / "rejects"):
                    folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(self.volume.hold(self.root))
            except OSError as error:
                raise UsageError(
                    f"output {self.root}: expected to write in it, found: {error}; choose another --output"
                ) from error
            try:
                yield
                self.volume.check_held()
            except PipelineError:
                self.volume.check_held()  # what went wrong may be what the other run did
                raise
            finally:
                with self.volume.writing:
                    pass

    def is_locked(self) -> bool:
        """Whether a run holds the output at this moment."""
        return self.volume.is_held(self.root)


def _parquet(table: pa.Table) -> pa.Buffer:
    rows = max(1, ROW_GROUP_BYTES * max(1, len(table)) // max(1, table.nbytes))
    plain = [name for name in table.column_names if name != "embedding"]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        use_dictionary=plain,
        write_statistics=plain,  # those of components say nothing, and take a third of the time
        write_page_checksum=True,
    ) as writer:
        if len(table):  # a row group without rows is what some readers take as the size of a batch
            writer.write_table(table, row_group_size=rows)
    return sink.getvalue()
