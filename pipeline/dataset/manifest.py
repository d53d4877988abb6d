"""The manifest: which recipe a dataset has, which chunks it holds, and how its last run went.

`manifest.jsonl` is a dataset line followed by receipt, seen and run lines in the order they were written; the driver is
its only writer. A line that cannot be read is what a crash cut short: it is dropped, and costs nothing, because
the footer of every part has its receipt too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from pipeline.chunk import Shard, ShardSpan, Span

FORMAT_VERSION = 1

# ASCII without controls and slashes, short enough for a file, no leading dot: names nothing outside its folder.
PartName = Annotated[str, msgspec.Meta(pattern=r"^[!-\-0-~][ -.0-~]{0,254}\Z")]
END = 2**63  # of the numbers that Parquet and numpy count with
Count = Annotated[int, msgspec.Meta(ge=0, le=END - 1)]
Date = Annotated[int, msgspec.Meta(ge=-END, le=END - 1)]  # nanoseconds since the epoch


class Dataset(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dataset"):
    """What every part of a dataset has in common."""

    format_version: int = FORMAT_VERSION
    fingerprint: str
    recipe: dict[str, Any]
    config: dict[str, Any]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="receipt"):
    """What a finished chunk reports; the footer of its part holds it too."""

    chunk: str
    part: PartName
    has_rejects: bool  # whether rejects/ holds a file of the part's name
    fingerprint: str
    spans: tuple[ShardSpan, ...] = ()  # of the rows of its chunk, in their order; one at least
    input_rows: Count
    embedded_rows: Count
    rejected_rows: Count
    passages: Count
    truncated: Count
    lost_tokens: Count = 0  # that truncated passages have not; 0 in parts of earlier versions
    tokens: Count
    column_settings: str = msgspec.field(
        default="", name="labels"
    )  # which column gave the ids, which were kept, and in which types
    has_text: bool = False  # whether its column `text` has the passages; not in parts of earlier versions
    kinds: dict[str, list[str]] = {}  # of JSON values in each kept column; empty where the shard has types
    root: str = ""  # digest of the folder that `source` is below; "" in parts of earlier versions
    reasons: dict[str, Count] = {}  # rejected rows by reason; empty in parts of earlier versions
    reused_rows: Count = 0  # whose vectors come from an older part
    engine_calls: Count = 0
    engine_texts: Count = 0
    engine_tokens: Count = 0  # of the passages that the engine had; 0 in parts of earlier versions
    engine_s: float = 0.0
    engine_ready_at: float = 0.0  # seconds since the epoch
    container: str = ""  # that embedded it, by Modal's id; "" on a machine of one's own
    gpu: str = ""  # of that container
    versions: str = ""  # of what made the vectors, such as "vllm 0.32.0, torch 2.13.0"; "" in parts of earlier versions
    rejects_checksum: str = ""  # blake2b of the file in rejects/; "" when there is none
    size_bytes: Count = 0  # of the part; 0 in its own footer, which cannot know
    checksum: str = ""  # blake2b of the part; likewise
    # Of parts of earlier versions, which have rows of one shard; read as the only one of `spans`.
    source: str | msgspec.UnsetType = msgspec.UNSET
    shard_size_bytes: Count | msgspec.UnsetType = msgspec.UNSET
    shard_mtime_ns: Date | msgspec.UnsetType = msgspec.UNSET
    span: Span | msgspec.UnsetType = msgspec.UNSET
    last: bool | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        """Raise ValueError, for a decoder msgspec.ValidationError, for spans that are none."""
        if not self.spans and isinstance(self.source, str) and isinstance(self.span, Span):
            size_bytes, mtime_ns = self.shard_size_bytes or 0, self.shard_mtime_ns or 0
            shard = Shard(source=self.source, size_bytes=size_bytes, mtime_ns=mtime_ns)
            only = ShardSpan(shard=shard, span=self.span, last=self.last is True)
            msgspec.structs.force_setattr(self, "spans", (only,))
        for name in ("source", "shard_size_bytes", "shard_mtime_ns", "span", "last"):
            msgspec.structs.force_setattr(self, name, msgspec.UNSET)
        if not self.spans or not all(map(_is_span, self.spans)):
            raise ValueError(f"expected spans of rows and bytes, found {self.spans}")

    @property
    def sources(self) -> tuple[str, ...]:
        """The shards that it has rows of, in their order, each once."""
        return tuple(dict.fromkeys(each.source for each in self.spans))

    @property
    def n_rows(self) -> int:
        """Number of physical rows of its chunk."""
        return sum(each.span.n_rows for each in self.spans)

    @property
    def is_consistent(self) -> bool:
        """Whether its rows are those embedded and those rejected, and no more than its span has."""
        n_rows = self.embedded_rows + self.rejected_rows
        return self.input_rows == n_rows <= self.n_rows and self.passages >= self.embedded_rows


def _is_span(each: ShardSpan) -> bool:
    shard, span = each.shard, each.span
    of_rows = 0 <= span.row_start <= span.row_stop < END and 0 <= span.n_blank < END
    of_file = 0 <= shard.size_bytes < END and -END <= shard.mtime_ns < END
    return of_rows and of_file and 0 <= span.byte_start <= span.byte_stop < END


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="seen"):
    """A shard whose mtime changed but whose rows did not: its receipts stay valid for this size and mtime."""

    source: str
    size_bytes: Count
    mtime_ns: Date

    @classmethod
    def of(cls, shard: Shard) -> Seen:
        """Return the line for a shard as it is now."""
        return cls(source=shard.source, size_bytes=shard.size_bytes, mtime_ns=shard.mtime_ns)


class Run(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="run"):
    """How a run went; `status` tells the newest one."""

    state: Literal["started", "complete", "incomplete"]
    input: str
    started_at: float  # seconds since the epoch
    limit: Count | None = None  # rows, when no more were asked for
    keep_missing: bool = False  # whether rows of shards that are gone were to stay
    planned_rows: Count = 0  # that the dataset was to have
    missing_chunks: Count = 0
    skipped_files: tuple[str, ...] = ()
    duplicate_ids: Count | None = 0  # None where they were not counted
    kept_rows: Count = 0  # in parts that stayed as they were
    reused_rows: Count = 0  # in new parts, with the vector of an old one
    embedded_now: Count = 0  # texts that the engine embedded
    removed_rows: Count = 0  # that were in replaced or removed parts and are nowhere now
    engine_calls: Count = 0
    load_s: float = 0.0  # from its first chunk on, until an engine was ready
    engine_tokens: Count = 0  # that the engine had
    engine_s: float = 0.0
    estimated_tokens: Count = 0  # that it was to have, as the plan of the run had it
    estimated_engine_s: float = 0.0  # 0 where no speed was known
    wall_s: float = 0.0
    engine_busy: float | None = None  # engine seconds / seconds from engine ready to last receipt
    peak_rss_bytes: Count = 0
    cost_usd: float = 0.0


Line = Dataset | Receipt | Seen | Run
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)
_receipt_decoder = msgspec.json.Decoder(Receipt)


@dataclass(slots=True, kw_only=True)
class Manifest:
    """The lines of a manifest, folded in order."""

    dataset: Dataset | None = None
    receipts: dict[str, Receipt] = field(default_factory=dict)  # by part name
    seen: dict[str, Seen] = field(default_factory=dict)  # by source
    run: Run | None = None
    n_unreadable: int = 0

    def is_current(self, receipt: Receipt, span: ShardSpan, shard: Shard) -> bool:
        """Whether a span of a part was made of its shard as it is now, or a later run saw that it might have been."""
        return span.shard == shard or (receipt.part in self.receipts and self.seen.get(shard.source) == Seen.of(shard))


def format_line(line: Line) -> bytes:
    """Return one line of JSON with its newline."""
    return _encoder.encode(line) + b"\n"


def parse_receipt(text: bytes) -> Receipt:
    """Return the receipt in a part's footer; raises msgspec.MsgspecError when it is none."""
    return _receipt_decoder.decode(text)


def fold(lines: Iterable[bytes]) -> Manifest:
    """Return the state that a manifest's lines add up to."""
    manifest = Manifest()
    for text in lines:
        try:
            if not text.endswith(b"\n"):
                raise msgspec.DecodeError("cut short")
            line = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            manifest.n_unreadable += 1
            continue
        if isinstance(line, Dataset):
            manifest.dataset = line
        elif isinstance(line, Receipt):
            manifest.receipts[line.part] = line
        elif isinstance(line, Seen):
            manifest.seen[line.source] = line
        else:
            manifest.run = line
    return manifest


def totals(receipts: Iterable[Receipt]) -> dict[str, Any]:
    """Return the sums over receipts that a reader of a dataset asks for, by the names of `status --json`.

    `stored_texts` counts the passages whose text is in the dataset. `rejected_by_reason` begins with the most frequent
    reason; "unknown" counts rows of parts of earlier versions, whose receipts name no reasons.
    """
    names = ("input_rows", "embedded_rows", "rejected_rows", "passages", "truncated", "lost_tokens", "tokens")
    sums: dict[str, Any] = dict.fromkeys((*names, "parts", "size_bytes", "stored_texts"), 0)
    reasons: Counter[str] = Counter()
    for receipt in receipts:
        sums["parts"] += 1
        sums["size_bytes"] += receipt.size_bytes
        sums["stored_texts"] += receipt.passages if receipt.has_text else 0
        for name in names:
            sums[name] += getattr(receipt, name)
        reasons.update(receipt.reasons)
        reasons["unknown"] += receipt.rejected_rows - sum(receipt.reasons.values())
    most_first = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return sums | {"rejected_by_reason": {reason: n for reason, n in most_first if n > 0}}
