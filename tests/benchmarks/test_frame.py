"""The frame of the benchmarks: turns, ratios, conditions, goals and tables. Nothing is measured here."""

from __future__ import annotations

import re
import subprocess
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow as pa
import pytest

from pipeline.config import ENGINES, load_config
from pipeline.driver.prices import USD_PER_GPU_S
from pipeline.files import publish_file
from pipeline.shipped import find_config
from tests.benchmarks import __main__ as every
from tests.benchmarks import conditions, dummy, gpu, mfu, rows
from tests.benchmarks.corpora import WORDS, real_texts, write_long, write_short
from tests.benchmarks.pairs import apart, in_turns, ratios
from tests.benchmarks.phases import file_of
from tests.benchmarks.raw import read
from tests.benchmarks.results import Figure, Result, ratio_figure
from tests.benchmarks.table import BEGIN, END, HEAD, RULE, main, missed, put_between, read_results, section
from tests.support import REPOSITORY

INTEL = "vendor_id\t: GenuineIntel\nmodel name\t: Xeon 9\nflags\t\t: sse avx2 avx512f amx_bf16\n"
MACHINE = conditions.machine()  # once: its available memory and its date move on
FIGURES = (
    Figure(case="a", value=1.02, goal=1.03, least=1.0, most=1.1, detail="so"),
    Figure(case="b", value=1.56, goal=1.5),
    Figure(case="c", value=3.0, unit="texts/s"),
)


def result(**changes: Any) -> Result:
    corpora = {"short": conditions.corpus([1, 2, 3])}
    made = Result(benchmark="b", what="What.", machine=MACHINE, corpora=corpora, figures=FIGURES, runs={"x": [1]})
    return msgspec.structs.replace(made, **changes)


def test_every_other_turn_goes_backwards_and_each_program_has_every_turn() -> None:
    order: list[str] = []

    def program(name: str) -> dict[str, Any]:
        order.append(name)
        return {"at": len(order)}

    runs = in_turns({name: partial(program, name) for name in "ab"}, 3)
    assert "".join(order) == "abbaab"
    assert runs == {"a": [{"at": 1}, {"at": 4}, {"at": 5}], "b": [{"at": 2}, {"at": 3}, {"at": 6}]}


def test_ratios_are_those_of_turns_and_of_medians() -> None:
    found = ratios([2.0, 30.0, 4.0], [1.0, 10.0, 4.0])
    assert found == {
        "ours": 4.0,
        "theirs": 4.0,
        "ratio_of_medians": 1.0,
        "median_of_ratios": 2.0,
        "least": 1.0,
        "most": 3.0,
    }
    figure = ratio_figure("case", found, goal=1.5, names=("ours", "raw"))
    assert (figure.value, figure.least, figure.most) == (2.0, 1.0, 3.0)


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit code"):
        apart("tests.benchmarks.raw", tmp_path / "none.parquet", tmp_path / "out", "8")


@pytest.mark.parametrize(
    ("value", "goal", "verdict"),
    [(1.5, 1.5, "met"), (1.51, 1.5, "missed by 0.010 x"), (9.0, None, "")],
)
def test_a_goal_is_met_or_missed_by_how_much(value: float, goal: float | None, verdict: str) -> None:
    assert Figure(case="", value=value, goal=goal).verdict == verdict


def test_a_processor_is_its_name_and_the_flags_that_matter() -> None:
    assert conditions.processor(INTEL) == {"cpu": "Xeon 9", "flags": ["avx2", "avx512f", "amx_bf16"]}
    assert conditions.processor("Features\t: fp bf16\n")["flags"] == ["bf16"]
    assert conditions.processor("")["cpu"]


def test_a_machine_has_all_that_a_figure_depends_on() -> None:
    found = conditions.machine()
    assert {"python", "pyarrow", "numpy"} <= found["versions"].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found["date"])
    assert found["cores"] >= 1


def test_a_corpus_is_its_rows_its_tokens_and_quantiles() -> None:
    found = conditions.corpus([*range(1, 101)])
    assert found == {"rows": 100, "tokens": 5050, "tokens_a_row": {"p5": 5, "p50": 50, "p95": 95, "p100": 100}}


def test_a_result_comes_back_from_its_file_and_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(msgspec.json.encode(result(problems=("rows differ",))))
    [found] = read_results(tmp_path)
    assert found == result(problems=("rows differ",))
    lines = section(found).splitlines()
    at = lines.index(HEAD)
    assert lines[at + 1 : at + 5] == [
        RULE,
        "| a | 1.02 x | 1 to 1.1 | ≤ 1.03: met | so |",
        "| b | 1.56 x |  | ≤ 1.5: missed by 0.060 x |  |",
        "| c | 3 texts/s |  |  |  |",
    ]
    assert "**Not consistent**: rows differ" in lines
    assert missed([found]) == ["b, b: 1.56 x, missed by 0.060 x"]


def test_a_table_is_put_between_two_lines_of_a_page_and_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    (tmp_path / "b.json").write_bytes(msgspec.json.encode(result()))
    for _ in range(2):
        assert main([str(tmp_path), str(page)]) == 0
    assert page.read_text() == f"above\n{BEGIN}\n{section(result())}\n{END}\nbelow\n"
    with pytest.raises(ValueError, match="expected a line"):
        put_between(f"{END}\n{BEGIN}\n", "text")


def test_the_table_of_the_docs_has_the_form_that_the_code_makes() -> None:
    page = (REPOSITORY / "docs/benchmarks.md").read_text()
    held = page.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]
    assert put_between(page, held) == page
    sections = re.split(r"^### ", held, flags=re.MULTILINE)[1:]
    assert {each.splitlines()[0] for each in sections} >= set(every.STEPS) - {"peers"}
    for each in sections:
        lines = [line for line in each.splitlines() if line.startswith("|")]
        assert lines[:2] == [HEAD, RULE]
        for line in lines[2:]:
            _, case, value, _, goal, _, _ = line.split("|")
            assert case.strip()
            assert re.fullmatch(r" [-\d.e+]+ \S+ ", value)
            assert re.fullmatch(r" (≤ [\d.]+: (met|missed by [\d.]+ \S+))? ", goal)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_raw_reads_what_was_written(tmp_path: Path, name: str) -> None:
    table = read(write_short(tmp_path / name, 120))
    assert table.column("id").to_pylist() == [f"doc-{i}" for i in range(120)]
    assert len(set(table.column("text").to_pylist())) == 120


def test_real_texts_are_distinct_and_as_long_as_they_are_to_be(tmp_path: Path) -> None:
    for length, words in WORDS.items():
        found = real_texts(tmp_path, length, 2_000)
        assert len(set(found)) == len(found)
        assert all(len(text.split()) in words for text in found[:-1])
        assert sum(len(text.split()) for text in found) == pytest.approx(2_000, rel=0.1)


def test_long_rows_have_their_words(tmp_path: Path) -> None:
    texts = read(write_long(tmp_path / "a.parquet", 3, 40)).column("text").to_pylist()
    assert [len(text.split()) for text in texts] == [40] * 3


def test_the_start_of_a_run_is_no_time_of_its_rows() -> None:
    few = [{"wall_s": 1.0, "cpu_s": 1.5, "input_rows": 100, "peak_rss_bytes": 1}]
    runs = {
        n: [{"wall_s": 1.0 + (n - 100) * 2e-5, "cpu_s": 1.5 + (n - 100) * 3e-5, "peak_rss_bytes": n}]
        for n in (1_000, 10_000)
    }
    assert rows.row_us(runs, few) == pytest.approx({1_000: 20.0, 10_000: 20.0})
    figures = rows.figures_of(runs, few, 1_000)
    assert figures[0].detail == "20.0 µs a row, 30.0 of the processor, 1.0 s in all"
    assert [(figure.value, figure.goal) for figure in figures] == [(1.0, None), (1.0, None), (1.0, 1.1), (10.0, 1.1)]


def test_a_frame_is_in_the_innermost_file_of_the_pipeline(tmp_path: Path) -> None:
    assert file_of(None) == file_of(sys._getframe()) == "elsewhere"
    seen: list[str] = []
    publish_file(tmp_path / "a", pa.py_buffer(b"a"), lambda: seen.append(file_of(sys._getframe())))
    assert set(seen) == {"files.py"}


@pytest.mark.parametrize(
    ("device", "memory_mib", "gpu"),
    [
        ("NVIDIA A100-SXM4-40GB", 40_960, "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", 81_920, "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", 81_559, "H100"),
        ("NVIDIA L40S", 46_068, "L40S"),
        ("NVIDIA L4", 23_034, "L4"),
        ("NVIDIA A10G", 23_028, "A10G"),
        ("Tesla T4", 15_360, "T4"),
        ("NVIDIA GeForce RTX 4090", 24_564, ""),
    ],
)
def test_a_gpu_has_the_name_that_modal_gives_it(device: str, memory_mib: int, gpu: str) -> None:
    assert mfu.modal_name(device, memory_mib) == gpu


def test_mfu_is_the_share_of_the_peak() -> None:
    assert mfu.mfu(7_256.0, 2.15e10, "A100-40GB") == pytest.approx(0.5, rel=1e-3)  # half of 312 TFLOP/s
    assert mfu.mfu(1.0, 1.0, "") is None
    assert mfu.usd_per_million(1e6, "A100-40GB") == pytest.approx(0.000583 + 4 * 1.31e-5 + 32 * 2.22e-6)
    assert mfu.usd_per_million(1.0, "") is None
    assert all(mfu.mfu(1.0, 1.0, gpu) for gpu in USD_PER_GPU_S if gpu != "RTX-PRO-6000")


def test_the_line_of_a_length_has_the_share_of_the_peak_and_the_price() -> None:
    run = {"tokens_per_s": {"512": [7_000.0, 7_256.0, 9_000.0]}, "flop_per_token": 2.15e10}
    found = gpu.at_length(512, run, "A100-40GB")
    assert (found.value, found.least, found.most) == (7_256, 7_000, 9_000)
    assert found.detail == "MFU 50.0 %, $0.0974 a million tokens"
    assert gpu.at_length(512, run, "").detail == "MFU not known: no peak"


def test_a_model_of_ones_own_keeps_its_longest_text_and_the_dummy_takes_all_lengths(tmp_path: Path) -> None:
    asked = Namespace(model="sentence-transformers/all-MiniLM-L6-v2", set=[], layers=1, lengths=[64, 2048])
    assert gpu.named(asked, tmp_path)[1].max_tokens == 256
    with patch.dict(ENGINES):
        flags, model = gpu.named(Namespace(**vars(asked) | {"model": None}), tmp_path)
    assert (model.max_tokens, model.location) == (2048, str(tmp_path))
    assert f"model.location={tmp_path}" in flags


def test_the_dummy_has_the_parameters_of_the_model(tmp_path: Path) -> None:
    keys = dummy.write_shape(tmp_path, dummy.LAYERS)
    shape = msgspec.json.decode((tmp_path / "config.json").read_bytes())
    model = load_config(find_config(dummy.CONFIG)).model
    width, heads, kv_heads = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"]
    of_attention = width * shape["head_dim"] * (2 * heads + 2 * kv_heads)
    of_layer = of_attention + 3 * width * shape["intermediate_size"]
    n_parameters = shape["num_hidden_layers"] * of_layer
    assert 2 * n_parameters == pytest.approx(model.flop_per_token, rel=0.01)
    assert n_parameters + shape["vocab_size"] * width == pytest.approx(model.n_parameters, rel=0.01)
    assert keys["model.kv_bytes_per_token"] == model.kv_bytes_per_token
    assert width == model.dims[0]


@pytest.mark.parametrize(("same", "said"), [(True, "vectors after each wake the same"), (False, "ARE OTHERS")])
def test_sleep_says_what_is_left_on_the_gpu_and_whether_vectors_came_back(
    monkeypatch: pytest.MonkeyPatch, same: bool, said: str
) -> None:
    times = [{"sleep_s": sleep_s, "wake_s": 0.5, "gpu_asleep_mib": 1005} for sleep_s in (1.5, 1.25, 2.0)]
    monkeypatch.setattr(gpu, "apart", lambda *words: {"gpu_awake_mib": 13_963, "asleep": times, "same": same})
    _, [sleeps, wakes] = gpu.sleep_and_wake([])
    assert (sleeps.value, sleeps.least, sleeps.most, sleeps.unit) == (1.5, 1.25, 2.0, "s")
    assert "from 13,963 to 1,005 MiB" in sleeps.detail
    assert said in wakes.detail


def test_without_a_gpu_it_says_what_would_be_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert gpu.main(["--lengths", "64", "2048"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "expected an NVIDIA GPU" in said
    assert "MFU at 64, 2048 tokens" in said


@pytest.mark.parametrize("code", [0, 1])
def test_make_bench_fails_where_a_benchmark_does_and_not_where_a_goal_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        (tmp_path / f"{command[2].rpartition('.')[2]}.json").write_bytes(msgspec.json.encode(result()))
        return subprocess.CompletedProcess(command, code if command[2].endswith("bare") else 0)

    monkeypatch.setattr(every, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(every, "STEPS", ("rows", "bare", "nothing"))
    assert every.main(["--folder", str(tmp_path)]) == code
    said = capsys.readouterr().out
    assert said.count("b, b: 1.56 x, missed by 0.060 x") == 2
    assert f"2 results; failed: {'bare' if code else 'none'}" in said
    assert (tmp_path / "table.md").read_text().count("### b") == 2


def test_every_step_of_make_bench_is_a_benchmark() -> None:
    assert every._is_there("bare")
    assert not every._is_there("nothing")
    assert all(map(every._is_there, set(every.STEPS) - {"peers"}))
