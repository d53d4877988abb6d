"""A dataset: its manifest, its parts, the volume it is kept on, and the transaction that changes it."""

from pipeline.dataset.card import maker, write_card
from pipeline.dataset.copy import check_whole, copy_spans
from pipeline.dataset.describe import open_dataset, read_dataset, status, trained_widths, width_of
from pipeline.dataset.footer import RECEIPT_KEY, batch_rows
from pipeline.dataset.index import (
    Keys,
    VectorIndex,
    first_entries,
    hashes_in,
    index_part,
    index_pieces,
    index_vectors,
    joined,
    keys_of,
    positions,
    read_entries,
)
from pipeline.dataset.layout import TRASH, check_layout
from pipeline.dataset.lock import BEAT_S, NAME, STALE_S, flock, heartbeat
from pipeline.dataset.manifest import Dataset, Manifest, Receipt, Run, Seen, fold, parse_receipt, totals
from pipeline.dataset.ours import (
    PART_NAME,
    REPORT_MARK,
    check_ours,
    discard,
    discard_file,
    foreign_files,
    is_our_report,
    output_folder,
    report_path,
    sweep,
    temporaries,
)
from pipeline.dataset.parts import count_duplicate_ids, open_part, open_rejects, rows_within
from pipeline.dataset.rejects import describe_reject, iter_rejects
from pipeline.dataset.store import Store
from pipeline.dataset.transaction import Transaction, load_prefilled, save_prefilled
from pipeline.dataset.volume import Attempt, Attempts, Volume, deaths_of
from pipeline.dataset.words import describe_plan, describe_run, describe_status

__all__ = [
    "BEAT_S",
    "NAME",
    "PART_NAME",
    "RECEIPT_KEY",
    "REPORT_MARK",
    "STALE_S",
    "TRASH",
    "Attempt",
    "Attempts",
    "Dataset",
    "Keys",
    "Manifest",
    "Receipt",
    "Run",
    "Seen",
    "Store",
    "Transaction",
    "VectorIndex",
    "Volume",
    "batch_rows",
    "check_layout",
    "check_ours",
    "check_whole",
    "copy_spans",
    "count_duplicate_ids",
    "deaths_of",
    "describe_plan",
    "describe_reject",
    "describe_run",
    "describe_status",
    "discard",
    "discard_file",
    "first_entries",
    "flock",
    "fold",
    "foreign_files",
    "hashes_in",
    "heartbeat",
    "index_part",
    "index_pieces",
    "index_vectors",
    "is_our_report",
    "iter_rejects",
    "joined",
    "keys_of",
    "load_prefilled",
    "maker",
    "open_dataset",
    "open_part",
    "open_rejects",
    "output_folder",
    "parse_receipt",
    "positions",
    "read_dataset",
    "read_entries",
    "report_path",
    "rows_within",
    "save_prefilled",
    "status",
    "sweep",
    "temporaries",
    "totals",
    "trained_widths",
    "width_of",
    "write_card",
]
