"""What the fuzzer starts from and what it has found, as tests."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS, fuzz_parquet, seeds_of_parquet

ALL = [
    pytest.param(name, number, id=f"{name} {number}") for name in TARGETS for number in range(len(TARGETS[name][1]()))
]


@pytest.mark.parametrize(("name", "number"), ALL)
def test_a_seed_keeps_the_promises_whole_and_cut_anywhere(name: str, number: int) -> None:
    target, seeds = TARGETS[name]
    seed = seeds()[number]
    for cut in {*range(0, len(seed), max(1, len(seed) // 10)), len(seed)}:
        target(seed[:cut])


FOUND = {
    # On 2026-11-27: of bytes that are no UTF-8 pyarrow 26 read two records where there is one: IndexError.
    "odd quotes where nothing is UTF-8": (
        "delimited",
        b'\x00id,text,k\n<"\0\0"<1,"a\xef!!!!!!!!xt"";, d,te\x8d\x8b\xd3\xff\xff\xff\xff\xffk\n1,"a\r\nb&,x\n',
    ),
    # On 2026-11-27: alone in its span it was read, among others it was rejected.
    "an element before a vertical tab": ("json", b'\x00[{"id": 1},\n ,{"text": "a"}\x0b]\n'),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_keeps_the_promises(name: str) -> None:
    target, data = FOUND[name]
    TARGETS[target][0](data)


# Found on 2026-11-24: to ask pyarrow 26 for a column whose size statistics are damaged ends the process (SIGABRT).
@pytest.mark.parametrize("seed", [0, 2])
def test_a_changed_byte_in_a_footer_ends_no_process(seed: int) -> None:
    data = seeds_of_parquet()[seed]
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for at in range(start, len(data)):
        fuzz_parquet(data[:at] + bytes([(data[at] + 2) % 256]) + data[at + 1 :])
