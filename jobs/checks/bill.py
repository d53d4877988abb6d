"""Step: what Modal bills for the containers of an earlier step, against what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import modal

from jobs.checks.ledger import Finding, Ledger
from pipeline.config import Config

RESOLUTION = timedelta(hours=1)
AGREES = 0.05  # of the bill, that the two may differ
UNSEEN_S = 1.5  # a container, besides: it does not see how it is made and taken down
OF_STEP = "snapshot"


def bill_usd(config: Config) -> float:
    """Return what the step is expected to cost."""
    return 0.0


def check_bill(ledger: Ledger) -> Finding:
    """Compare the bill of the app that the step before deployed; Modal has one for full hours that are over."""
    step = ledger.check.steps.get(OF_STEP)
    if step is None or not step.found.get("containers"):
        return Finding(found={}, means=["no container of the step before to compare with"], is_over=False)
    containers, app = step.found["containers"], step.found["app"]
    began = datetime.fromtimestamp(min(each["from"] for each in containers), UTC)
    ended = datetime.fromtimestamp(max(each["to"] for each in containers), UTC)
    items = modal.Workspace.from_context().billing.report(start=_hour(began), resolution="h")
    ours = [item for item in items if item.object_id == app]
    through = max((item.interval_start for item in ours), default=_hour(began) - RESOLUTION) + RESOLUTION
    if through < ended:
        when = _hour(ended) + RESOLUTION
        said = f"Modal has no bill yet for the hour that ends at {when:%H:%M} UTC; type the same some time after it"
        return Finding(found={}, means=[said], is_over=False)
    return bill_found(float(sum(item.cost for item in ours)), containers)


def bill_found(billed: float, containers: Sequence[Mapping[str, float]]) -> Finding:
    """Return whether a bill agrees with what containers say of themselves, and what it means."""
    reckoned = sum((each["to"] - each["from"]) * each["usd_per_s"] for each in containers)
    unseen = sum(UNSEEN_S * each["usd_per_s"] for each in containers)
    agrees = abs(billed - reckoned) <= AGREES * billed + unseen
    means = [
        f"Modal bills ${billed:,.4f} for containers that reckon with ${reckoned:,.4f}: "
        + ("`cost_usd` says what is paid" if agrees else "`cost_usd` is off by that; see pipeline/driver/prices.py")
    ]
    return Finding(found={"billed_usd": billed, "reckoned_usd": round(reckoned, 4)}, means=means, is_well=agrees)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
