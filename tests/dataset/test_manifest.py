"""The manifest: what its lines add up to, and what a crash can take from it."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunk import Shard, ShardSpan, Span
from pipeline.dataset.manifest import (
    Count,
    Dataset,
    Line,
    Manifest,
    Receipt,
    Run,
    fold,
    format_line,
    parse_receipt,
    totals,
)
from tests.dataset.test_store import RECEIPT

counts = st.integers(0, 2**62)
ranges = st.tuples(counts, counts).map(sorted)
spans = st.builds(
    lambda rows, span_bytes: Span(
        row_start=rows[0], row_stop=rows[1], byte_start=span_bytes[0], byte_stop=span_bytes[1]
    ),
    ranges,
    ranges,
)
OF_EARLIER_VERSIONS = ("source", "shard_size_bytes", "shard_mtime_ns", "span", "last")
COUNTED = [each.name for each in msgspec.structs.fields(Receipt) if each.type == Count]
shards = st.builds(Shard, source=st.text(max_size=9), size_bytes=counts, mtime_ns=st.integers(-(2**63), 2**63 - 1))
receipts = st.builds(
    Receipt,
    part=st.sampled_from(["a", "b", "c"]),
    spans=st.lists(st.builds(ShardSpan, shard=shards, span=spans), min_size=1, max_size=3).map(tuple),
    **dict.fromkeys(OF_EARLIER_VERSIONS, st.just(msgspec.UNSET)),
    **dict.fromkeys(COUNTED, counts),
)
json_values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
tables = st.dictionaries(st.text(), json_values, max_size=3)
datasets = st.builds(Dataset, recipe=tables, config=tables)
finite = st.floats(allow_nan=False, allow_infinity=False)
runs = st.builds(
    Run, started_at=finite, wall_s=finite, engine_s=finite, cost_usd=finite, engine_busy=st.none() | finite
)
manifests = st.lists(datasets | receipts | runs, max_size=6)


def state(lines: list[Line]) -> Manifest:
    """Return what lines add up to, by the plainest means there are."""
    return Manifest(
        dataset=next((line for line in reversed(lines) if isinstance(line, Dataset)), None),
        receipts={line.part: line for line in lines if isinstance(line, Receipt)},
        run=next((line for line in reversed(lines) if isinstance(line, Run)), None),
    )


@given(lines=manifests)
def test_lines_survive_being_written_and_read(lines: list[Line]) -> None:
    assert fold(map(format_line, lines)) == state(lines)


@given(receipt=receipts)
def test_a_receipt_survives_the_trip_through_a_footer(receipt: Receipt) -> None:
    assert parse_receipt(format_line(receipt).strip()) == receipt


@given(line=datasets | receipts | runs)
def test_a_line_is_one_line(line: Line) -> None:
    assert format_line(line).count(b"\n") == 1


@given(lines=manifests.filter(bool), share=st.floats(0, 1))
def test_a_manifest_cut_anywhere_is_the_state_of_its_whole_lines(lines: list[Line], share: float) -> None:
    written = [format_line(line) for line in lines]
    data = b"".join(written)
    cut = data[: int(share * len(data))]
    found = fold(cut.splitlines(keepends=True))
    expected = state(lines[: cut.count(b"\n")])
    expected.n_unreadable = int(cut != b"" and not cut.endswith(b"\n"))
    assert found == expected


garbage = st.sampled_from(
    [
        b"\n",
        b"\0" * 40 + b"\n",
        b"\xff\xfe\n",
        b"{}\n",
        b'{"kind":"receipt"}\n',
        b'{"kind":"other"}\n',
        b'"dataset"\n',
        b'{"kind":"run"}{"kind":"run"}\n',
    ]
) | st.binary(max_size=20).map(lambda data: b"#" + data.replace(b"\n", b"") + b"\n")


@given(lines=st.lists(datasets | receipts | runs | garbage, max_size=8))
def test_garbage_is_dropped_and_counted(lines: list[Line | bytes]) -> None:
    found = fold(line if isinstance(line, bytes) else format_line(line) for line in lines)
    expected = state([line for line in lines if not isinstance(line, bytes)])
    expected.n_unreadable = sum(isinstance(line, bytes) for line in lines)
    assert found == expected


def test_a_line_nested_too_deep_is_dropped_too() -> None:
    line = b'{"kind":"dataset","fingerprint":"f","recipe":{"a":' + b"[" * 100_000 + b"\n"
    assert fold([line]).n_unreadable == 1


def test_a_line_with_keys_of_a_later_release_is_read() -> None:
    text = format_line(Run(state="complete", input="in", started_at=1.0)).replace(b"{", b'{"new_key":[1],', 1)
    assert fold([text]).run == Run(state="complete", input="in", started_at=1.0)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"kind":"run","state":"complete","input":"","started_at":1}'])
def test_what_is_no_receipt_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        parse_receipt(text)


@given(receipt=receipts, name=st.sampled_from(COUNTED), value=st.sampled_from([-1, 2**63, 10**30, "384", 1.5, None]))
def test_a_line_whose_numbers_count_nothing_is_dropped(receipt: Receipt, name: str, value: object) -> None:
    line = json.loads(format_line(receipt)) | {name: value}
    assert fold([json.dumps(line).encode() + b"\n"]) == Manifest(n_unreadable=1)


@pytest.mark.parametrize(("start", "stop"), [("row_start", "row_stop"), ("byte_start", "byte_stop")])
@pytest.mark.parametrize(("first", "last"), [(5, 4), (-3, -1), (0, 10**30), (0, 2**63), (2**63, 2**63)])
def test_a_span_of_nothing_that_can_be_is_none(start: str, stop: str, first: int, last: int) -> None:
    line = json.loads(format_line(RECEIPT))
    [each] = line["spans"]
    forged = json.dumps(line | {"spans": [each | {"span": each["span"] | {start: first, stop: last}}]}).encode()
    assert fold([forged + b"\n"]) == Manifest(n_unreadable=1)
    with pytest.raises(msgspec.MsgspecError):
        parse_receipt(forged)


@given(found=st.lists(receipts))
def test_totals_add_up(found: list[Receipt]) -> None:
    sums = totals(found)
    assert sums.pop("parts") == len(found)
    known = [receipt.reasons for receipt in found]
    reasons = {reason: sum(each.get(reason, 0) for each in known) for each in known for reason in each}
    unknown = sum(receipt.rejected_rows - sum(receipt.reasons.values()) for receipt in found)
    expected = reasons | ({"unknown": unknown} if unknown > 0 else {})
    assert sums.pop("rejected_by_reason") == {reason: n for reason, n in expected.items() if n > 0}
    assert sums.pop("stored_texts") == sum(receipt.passages for receipt in found if receipt.has_text)
    assert sums == {name: sum(getattr(receipt, name) for receipt in found) for name in sums}
    names = {"input_rows", "embedded_rows", "rejected_rows", "passages", "truncated", "tokens", "size_bytes"}
    assert names | {"lost_tokens"} == sums.keys()


@given(receipt=receipts)
@pytest.mark.parametrize("part", ["../part.parquet", "/part.parquet", "a/b", ".", "..", ".hidden", "", "a\0b"])
def test_a_receipt_cannot_name_a_file_outside_its_folder(receipt: Receipt, part: str) -> None:
    line = format_line(msgspec.structs.replace(receipt, part=part))
    assert (fold([line]).receipts, fold([line]).n_unreadable) == ({}, 1)
