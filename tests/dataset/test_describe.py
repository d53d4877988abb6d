"""The words of a run: the same here, on Modal and in a schedule's log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipeline.dataset.describe import describe_run
from pipeline.dataset.manifest import Run

RECORD = Run(
    state="complete", input="in", started_at=1.0, embedded_now=0, kept_rows=2000, wall_s=1234.56, cost_usd=7.125
)
SUMS: dict[str, Any] = {"input_rows": 2100, "embedded_rows": 2099, "rejected_rows": 1, "parts": 3, "tokens": 40_000}
SUMS |= {"rejected_by_reason": {}, "passages": 2099, "truncated": 0}


def words(output: str = "", sums: dict[str, Any] = SUMS, **changes: float) -> str:
    return describe_run(sums | msgspec.to_builtins(msgspec.structs.replace(RECORD, **changes)), output=output)


def test_a_run_on_this_machine_tells_how_busy_its_engine_was() -> None:
    begin = "complete: 2,100 rows, 2,099 embedded, 1 rejected, 3 parts, 40,000 tokens; this run embedded "
    assert words() == f"{begin}0 texts, kept 2,000 rows in 1,234.6 s"
    assert words(embedded_now=5, kept_rows=0, reused_rows=6, removed_rows=7, engine_busy=0.9876) == (
        f"{begin}5 texts, reused 6, removed 7 in 1,234.6 s, engine busy 98.8%"
    )


def test_a_run_on_modal_tells_its_output_and_its_price() -> None:
    assert words("wiki", engine_busy=0.9).startswith("complete: wiki has 2,100 rows, 2,099 embedded, ")
    assert words("wiki", engine_busy=0.9).endswith(
        "; this run embedded 0 texts, kept 2,000 rows in 1,234.6 s for $7.12"
    )


@pytest.mark.parametrize("output", ["", "wiki"])
@pytest.mark.parametrize(
    ("sums", "said"),
    [
        (
            {"rejected_rows": 5, "rejected_by_reason": {"empty_text": 3, "too_long": 2}},
            "5 rejected (3 empty_text, 2 too_long), 3 parts",
        ),
        ({"rejected_rows": 1500, "rejected_by_reason": {"unknown": 1500}}, "1,500 rejected (1,500 unknown), 3 parts"),
        ({"rejected_rows": 0}, "0 rejected, 3 parts"),
        ({"passages": 1000, "truncated": 12}, "40,000 tokens, 1.2% truncated; this run"),
        ({"passages": 3, "truncated": 3}, "40,000 tokens, 100.0% truncated; this run"),
        ({"passages": 10**7, "truncated": 1}, "40,000 tokens, under 0.1% truncated; this run"),
    ],
)
def test_a_run_tells_why_rows_were_rejected_and_which_share_was_cut(
    sums: dict[str, Any], said: str, output: str
) -> None:
    assert said in words(output, SUMS | sums)
