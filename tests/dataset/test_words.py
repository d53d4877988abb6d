"""The words of a run and of a dataset: the same here, on Modal and in a schedule's log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.console import EMBEDDING, Progress
from pipeline.dataset.manifest import Run
from pipeline.dataset.words import WIDTH, describe_run, describe_status

RECORD = Run(
    state="complete", input="in", started_at=1.0, embedded_now=0, kept_rows=2000, wall_s=1234.56, cost_usd=7.125
)
SUMS: dict[str, Any] = {"input_rows": 2100, "embedded_rows": 2099, "rejected_rows": 1, "parts": 3, "tokens": 40_000}
SUMS |= {"rejected_by_reason": {}, "passages": 2099, "truncated": 0, "size_bytes": 11_234_567}
FOUND = SUMS | {
    "path": "out",
    "state": "complete",
    "planned_rows": 2100,
    "model": "m",
    "revision": "r",
    "dim": 384,
    "skipped_files": [],
    "duplicate_ids": 0,
}


def words(sums: dict[str, Any] = SUMS, *, rented: bool = False, **changes: Any) -> str:
    record = msgspec.to_builtins(msgspec.structs.replace(RECORD, **changes))
    return "\n".join(describe_run(sums | record, "out", next_steps=["embed-corpus verify out"], rented=rented))


def test_a_run_tells_what_there_is_what_it_did_where_and_what_to_type_next() -> None:
    assert words().splitlines() == [
        "complete: 2,100 rows, 2,099 embedded, 1 rejected",
        "40,000 tokens in 2,099 passages",
        "this run embedded 0 texts, kept 2,000 rows in 20 min 35 s",
        "out: 3 parts, 11.2 MB",
        "next: embed-corpus verify out",
    ]
    of_run: dict[str, Any] = {"embedded_now": 5, "kept_rows": 0, "reused_rows": 6, "removed_rows": 1}
    did = words(**of_run, engine_busy=0.9876, engine_s=7.0, wall_s=7.25)
    assert "this run embedded 5 texts, reused 6 rows, removed 1 row in 7.2 s, engine busy\n  98.8%\n" in did
    did = words(**of_run, engine_busy=0.01, engine_s=0.1, estimated_tokens=5, engine_tokens=5)
    assert "engine" not in did, "it had too little to do for its figures to tell anything"


def test_a_run_on_modal_tells_its_price() -> None:
    assert "this run embedded 0 texts, kept 2,000 rows in 20 min 35 s for $7.12\n" in words(
        rented=True, engine_busy=0.9
    )


@pytest.mark.parametrize(
    ("sums", "said"),
    [
        (
            {"rejected_rows": 5, "rejected_by_reason": {"empty_text": 3, "too_long": 2}},
            "5 rejected\nrejects: 3 empty_text, 2 too_long\n",
        ),
        ({"rejected_rows": 1500, "rejected_by_reason": {"unknown": 1500}}, "1,500 rejected\nrejects: 1,500 unknown\n"),
        ({"rejected_rows": 0}, "0 rejected\n"),
        ({"passages": 1000, "truncated": 12}, "1,000 passages, 1.2% truncated\n"),
        ({"passages": 1, "truncated": 1, "tokens": 1}, "1 token in 1 passage, 100.0% truncated\n"),
        ({"passages": 10**7, "truncated": 1}, "passages, under 0.1% truncated\n"),
        ({"parts": 1, "size_bytes": 0}, "out: 1 part, 0 bytes\n"),
    ],
)
def test_a_run_tells_why_rows_were_rejected_and_which_share_was_cut(sums: dict[str, Any], said: str) -> None:
    assert said in words(SUMS | sums)


COUNTS = st.integers(0, 10**12)


@given(COUNTS, COUNTS, st.dictionaries(st.sampled_from(["empty_text", "null_text", "too_long"]), COUNTS))
def test_no_line_is_wider_than_a_terminal(rows: int, tokens: int, reasons: dict[str, int]) -> None:
    sums = SUMS | {"input_rows": rows, "embedded_rows": rows, "tokens": tokens, "rejected_by_reason": reasons}
    said = words(
        sums, embedded_now=rows, kept_rows=rows, reused_rows=rows, removed_rows=rows, engine_busy=1.0, engine_s=9.0
    )
    status = describe_status(FOUND | sums, msgspec.to_builtins(RECORD), None)
    assert max(map(len, [*said.splitlines(), *status])) <= WIDTH


STOPPED = Progress(
    phase=EMBEDDING, began_at=1.0, at=81.0, kept_rows=100, rows=400, n_rows=900, share=0.5, command="embed-corpus run x"
)


def test_status_tells_that_a_run_was_stopped_where_and_what_goes_on_with_it() -> None:
    started = msgspec.to_builtins(msgspec.structs.replace(RECORD, state="started"))
    found = FOUND | {"state": "incomplete", "input_rows": 500, "planned_rows": 1000}
    said = "\n".join(describe_status(found, started, STOPPED))
    assert said.startswith("out: incomplete: its run was stopped in the middle; run the same command again\n")
    assert "stopped   1970-01-01 00:01 UTC, embedding, 550 of 1,000 rows\n" in said
    assert "go on     embed-corpus run x\n" in said
    assert "500 rows, 2,099 embedded, 1 rejected, of 1,000\n" in said


def test_status_tells_what_a_run_is_at() -> None:
    found = FOUND | {"state": "running", "planned_rows": 1000}
    at_work = msgspec.structs.replace(STOPPED, tokens_per_s=1450.0, left_s=41.0, phase_at=21.0)
    lines = describe_status(found, msgspec.to_builtins(RECORD), at_work)
    assert lines[:2] == [
        "out: running for 01:20",
        "  embedding  50%, 550 of 1,000 rows, 1,450 tokens/s, 01:00, about 00:41 left",
    ]
    assert describe_status(found, {}, None)[0] == "out: running"
    assert describe_status(FOUND, msgspec.to_builtins(RECORD), STOPPED)[0] == "out: complete"
