"""Carry over: rows that stay although their file is gone or cannot be read, while the part that has them goes."""

from __future__ import annotations

from collections import defaultdict

from pipeline.chunk import ShardSpan, Taken
from pipeline.dataset import Receipt, Transaction, check_whole, copy_spans
from pipeline.driver.inventory import Inventory


def carried(inventory: Inventory) -> list[tuple[Receipt, list[ShardSpan]]]:
    """Return the spans of stale parts whose rows stay although they cannot be read again: they are copied."""
    taken: dict[str, Taken] = defaultdict(Taken)
    for each in (each for receipt in inventory.kept.values() for each in receipt.spans):
        taken[each.source].add(each.span)
    found = []
    for receipt in inventory.stale:
        sources = inventory.unread.get(receipt.part, frozenset())
        spans = [each for each in receipt.spans if each.source in sources and not taken[each.source].meets(each.span)]
        for each in spans:
            taken[each.source].add(each.span)
        found += [(receipt, spans)] if spans else []
    return found


def carry(inventory: Inventory, change: Transaction) -> list[Receipt]:
    """Copy these rows into parts of their own and return the receipts.

    Raises DamageError for a part that is not as it was published: nobody can make these rows again, and it would leave.
    """
    made = []
    for receipt, spans in carried(inventory):
        source = change.staging if receipt.part in inventory.staged else change.store
        check_whole(source, receipt)
        made.append(copy_spans(source, [(receipt, spans)], change.place.without_commits()))
        change.add(made[-1])
    return made
