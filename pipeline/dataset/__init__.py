"""A dataset: its manifest, its parts, the volume it is kept on, and the transaction that changes it."""

from pipeline.dataset.describe import describe_plan, describe_run, open_dataset, status, write_card
from pipeline.dataset.manifest import Dataset, Manifest, Receipt, Run, Seen, parse_receipt, totals
from pipeline.dataset.parts import count_duplicate_ids, open_part
from pipeline.dataset.rejects import describe_reject, in_one_line, iter_rejects
from pipeline.dataset.store import RECEIPT_KEY, Store
from pipeline.dataset.transaction import Transaction, load_prefilled, save_prefilled
from pipeline.dataset.volume import BEAT_S, NAME, STALE_S, Attempt, Attempts, Volume, deaths_of, heartbeat

__all__ = [
    "BEAT_S",
    "NAME",
    "RECEIPT_KEY",
    "STALE_S",
    "Attempt",
    "Attempts",
    "Dataset",
    "Manifest",
    "Receipt",
    "Run",
    "Seen",
    "Store",
    "Transaction",
    "Volume",
    "count_duplicate_ids",
    "deaths_of",
    "describe_plan",
    "describe_reject",
    "describe_run",
    "heartbeat",
    "in_one_line",
    "iter_rejects",
    "load_prefilled",
    "open_dataset",
    "open_part",
    "parse_receipt",
    "save_prefilled",
    "status",
    "totals",
    "write_card",
]
