"""What "auto" becomes: by the flags of a processor, by the GPU, and by what an output was begun with."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from pipeline.config import Dtype, load_config
from pipeline.dataset.footer import RECIPE_KEY
from pipeline.dataset.store import Store
from pipeline.model import dtype
from pipeline.model.dtype import Device, describe_dtype, modal_device, settle_dtype, this_device
from tests.support import HASHING, REPOSITORY, embed_corpus, read_dataset, texts, write_jsonl
from tests.support.many import Call, run_all
from tests.support.sabotage import FakedCommand

AUTO = load_config(REPOSITORY / "configs/local.toml")
LAPTOP = "fpu sse2 ssse3 fma sse4_2 avx f16c avx2 bmi2 avx_vnni"  # Alder Lake
ICE_LAKE = f"{LAPTOP} avx512f avx512bw avx512_vnni"
AMD, INTEL = "vendor_id\t: AuthenticAMD\n", "vendor_id\t: GenuineIntel\n"
OLD, NEW = f"flags : {LAPTOP}", f"flags : {LAPTOP} avx512_bf16"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{INTEL}flags\t\t: {LAPTOP}", "float32"),
        (f"{AMD}flags\t\t: {LAPTOP}", "float32"),
        (f"{INTEL}flags\t\t: {ICE_LAKE}", "float32"),
        (f"{INTEL}flags\t\t: {ICE_LAKE} avx512_bf16 amx_bf16 amx_tile", "bfloat16"),  # Sapphire Rapids
        (f"{INTEL}flags\t\t: {ICE_LAKE} avx512_bf16", "float32"),  # the same where the host hides AMX; Cooper Lake
        (f"{AMD}flags\t\t: {ICE_LAKE} avx512_bf16", "bfloat16"),  # Zen 4
        (f"flags\t\t: {ICE_LAKE} avx512_bf16", "bfloat16"),
        ("Features\t: fp asimd atomics asimdhp asimddp", "float32"),  # Graviton 2
        ("Features\t: fp asimd atomics sve i8mm bf16 dgh", "bfloat16"),  # Graviton 3
        ("Features\t: fp asimd xbf16 bf16x", "float32"),
        (f"vmx flags\t: avx512_bf16\nflags\t\t: {LAPTOP}", "float32"),
        (f"flags\t\t: {LAPTOP} avx512_bf16\n\nprocessor\t: 1\nflags\t\t: {LAPTOP}", "float32"),  # not every core
        ("model name\t: bf16", "float32"),
        ("", "float32"),
    ],
)
def test_a_processor_is_known_by_its_flags(
    line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\nbugs\t\t: spectre_v1\n")
    monkeypatch.setattr(dtype, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(sys, "platform", "linux")
    assert this_device().dtype == expected


def test_a_processor_without_a_cpuinfo_takes_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", "linux")
    assert this_device().dtype == "float32"


@pytest.mark.parametrize(("printed", "expected"), [("1\n", "bfloat16"), ("0\n", "float32"), ("", "float32")])
def test_a_mac_is_asked_by_sysctl(printed: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(dtype, "_output_of", lambda program, *_: printed if program == "sysctl" else "")
    assert this_device().dtype == expected


@pytest.mark.parametrize(
    ("torch", "printed", "expected"),
    [
        ("2.13.0+cu130", "8.0\n", Device(name="this GPU", dtype="bfloat16")),
        ("2.13.0", "9.0\n9.0\n", Device(name="this GPU", dtype="bfloat16")),
        ("2.13.0", "7.5\n", Device(name="this GPU", dtype="float32")),
        ("2.13.0", "9.0\n7.5\n", Device(name="this GPU", dtype="float32")),
        ("2.13.0+cpu", "9.0\n", Device(name="this processor", dtype="float32")),
        ("2.13.0", "", Device(name="this processor", dtype="float32")),
    ],
)
def test_a_gpu_counts_where_torch_can_use_it(
    torch: str, printed: str, expected: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{printed}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(metadata, "version", lambda _: torch)
    monkeypatch.setattr(dtype, "_cpuinfo", lambda: OLD)
    assert this_device() == expected


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [("A100-40GB", "bfloat16"), ("H100!", "bfloat16"), ("L4:2", "bfloat16"), ("T4", "float32"), ("t4:2", "float32")],
)
def test_modal_is_known_by_its_gpu(gpu: str, expected: str) -> None:
    assert modal_device(gpu).dtype == expected


def test_a_container_without_a_gpu_does_not_take_what_the_driver_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype, "_cpuinfo", lambda: NEW)
    assert modal_device("").dtype == "float32"


@pytest.mark.parametrize(
    ("device", "kept", "expected", "said"),
    [
        ("bfloat16", None, "bfloat16", ""),
        ("bfloat16", "bfloat16", "bfloat16", ""),
        ("float32", None, "float32", "which it computes faster than bfloat16"),
        ("float32", "float32", "float32", "which it computes faster than bfloat16"),
        ("float32", "bfloat16", "bfloat16", "as in the output; it computes float32 faster"),
        ("bfloat16", "float32", "float32", "as in the output; it computes bfloat16 faster"),
        ("bfloat16", "float16", "float16", "as in the output; it computes bfloat16 faster"),
    ],
)
def test_a_dtype_that_is_not_the_obvious_one_is_one_line(
    device: Dtype, kept: Dtype | None, expected: str, said: str
) -> None:
    it = Device(name="it", dtype=device)
    settled = settle_dtype(AUTO, it, kept=kept)
    assert settled.model.dtype == expected
    line = describe_dtype(AUTO, settled, it)
    assert bool(line) == bool(said)
    assert line == "" or line.startswith(f"model.dtype auto is {expected}")
    assert said in line


def test_a_dtype_that_was_said_stays() -> None:
    it = Device(name="it", dtype="float32")
    said = load_config(REPOSITORY / "configs/local.toml", ["model.dtype=float16"])
    assert settle_dtype(said, it, kept="bfloat16") == said
    assert describe_dtype(said, said, it) == ""


@pytest.mark.parametrize("device", ["bfloat16", "float32"])
def test_an_engine_without_a_model_needs_no_processor(device: Dtype) -> None:
    hashing, it = load_config(REPOSITORY / "configs/local.toml", HASHING[1:]), Device(name="it", dtype=device)
    settled = settle_dtype(hashing, it)
    assert settled.model.dtype == "float32"
    assert describe_dtype(hashing, settled, it) == ""


MACHINES = {"bfloat16": NEW, "float32": OLD}  # by the dtype that is fast there


def recorded(output: Path) -> list[str]:
    """Return the dtype of an output in each place that records it."""
    store = Store(root=output)
    footers = [pq.read_metadata(path).metadata[RECIPE_KEY] for path in sorted((output / "data").iterdir())]
    dataset = store.read_manifest().dataset
    assert dataset is not None
    assert f"| model.dtype | `'{dataset.recipe['model.dtype']}'` |" in (output / "README.md").read_text()
    return [
        dataset.recipe["model.dtype"],
        dataset.config["model"]["dtype"],
        *(json.loads(footer)["model.dtype"] for footer in footers),
    ]


@pytest.mark.parametrize("kind", ["sentence-transformers", pytest.param("vllm", marks=pytest.mark.slow)])
def test_a_dataset_is_completed_in_the_dtype_that_it_was_begun_with(tmp_path: Path, kind: str) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", texts(60))
    pairs = (("bfloat16", "float32"), ("float32", "bfloat16"))
    calls = []
    for begun, here in pairs:
        for name, sets, second in (("auto", (), here), ("said", ("--set", f"model.dtype={begun}"), begun)):
            run = ("run", "--input", source, "--output", tmp_path / name / begun, "--set", f"engine.kind={kind}", *sets)
            # The same two batches, whoever makes them.
            calls += [Call((*run, "--limit", "30"), cpuinfo=MACHINES[begun]), Call(run, cpuinfo=MACHINES[second])]
    done = run_all(calls)
    assert {each.returncode for each in done} == {0}, done
    for (begun, here), completed in zip(pairs, (done[1], done[5]), strict=True):
        assert f"model.dtype auto is {begun} as in the output; this processor computes {here}" in completed.stderr
        assert set(recorded(tmp_path / "auto" / begun)) == {begun}
        found = stored(tmp_path / "auto" / begun)
        assert np.array_equal(found, stored(tmp_path / "said" / begun))
        assert not np.any(np.all(found == stored(tmp_path / "said" / here), axis=1))


def test_the_line_is_said_when_there_is_something_to_embed(tmp_path: Path) -> None:
    source, output = write_jsonl(tmp_path / "in.jsonl", texts(3)), tmp_path / "out"
    run = ("run", "--input", source, "--output", output, "--set", "engine.kind=sentence-transformers")
    wrong = ("run", "--input", tmp_path / "none", "--output", output)
    refused, first, second = run_all([Call(each, cpuinfo=OLD) for each in (wrong, run, run)])
    assert [refused.returncode, first.returncode, second.returncode] == [2, 0, 0]
    assert len(refused.stderr.splitlines()) == 1
    assert "model.dtype auto is float32, which this processor computes faster than bfloat16" in first.stderr
    assert second.stderr == ""


def stored(output: Path) -> NDArray[np.float16]:
    return np.stack(read_dataset(output).column("embedding").to_numpy(zero_copy_only=False))


BFLOAT16 = ("--set", "model.dtype=bfloat16")


@pytest.fixture
def begun(tmp_path: Path) -> tuple[str | Path, ...]:
    """Make a dataset in bfloat16; return the arguments of a run that leaves the dtype open, which would be float32."""
    run = ("run", "--input", write_jsonl(tmp_path / "in.jsonl", texts(20)), "--output", tmp_path / "out", *HASHING)
    assert embed_corpus(*run, *BFLOAT16).returncode == 0
    return run


def test_an_output_without_its_manifest_keeps_its_dtype(tmp_path: Path, begun: tuple[str | Path, ...]) -> None:
    (tmp_path / "out/manifest.jsonl").unlink()
    assert "embedded 0 texts" in embed_corpus(*begun).stdout
    assert set(recorded(tmp_path / "out")) == {"bfloat16"}


@pytest.mark.parametrize("more", [(), ("--rebuild",)])
def test_a_recipe_with_an_odd_dtype_is_no_crash(
    tmp_path: Path, begun: tuple[str | Path, ...], more: tuple[str, ...]
) -> None:
    manifest = tmp_path / "out/manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"model.dtype":"bfloat16"', '"model.dtype":7', 1))
    done = embed_corpus(*begun, *more)
    assert done.returncode == (0 if more else 5), done.stderr
    assert "unexpected" not in done.stderr


def test_a_dtype_that_is_said_is_held_against_the_output(begun: tuple[str | Path, ...]) -> None:
    refused = embed_corpus(*begun, "--set", "model.dtype=float32")
    assert refused.returncode == 5
    assert 'model.dtype is "bfloat16", asked for "float32"' in refused.stderr
    refused = embed_corpus(*begun, "--set", "model.max_tokens=9")
    assert refused.returncode == 5
    assert "with another recipe: model.max_tokens is 256, asked for 9. Choose" in refused.stderr


def test_a_rebuild_chooses_anew_unless_there_is_nothing_else_to_rebuild(
    tmp_path: Path, begun: tuple[str | Path, ...]
) -> None:
    assert "embedded 0 texts" in embed_corpus(*begun, "--rebuild").stdout
    assert set(recorded(tmp_path / "out")) == {"bfloat16"}
    assert "embedded 20 texts" in embed_corpus(*begun, "--rebuild", "--set", "model.max_tokens=9").stdout
    assert set(recorded(tmp_path / "out")) == {"float32"}


def test_a_rebuild_that_was_stopped_goes_on_with_its_dtype(tmp_path: Path, begun: tuple[str | Path, ...]) -> None:
    rebuild = (*begun, "--rebuild", "--set", "model.max_tokens=9")
    faked = FakedCommand(tmp_path / "faked", "if holds('15'): os._exit(9)")
    small = ("--set", "run.chunk_tokens=20", *BFLOAT16)
    with faked.start(*rebuild, *small) as process:
        process.communicate()
    n_before = faked.embedded()
    assert n_before > 2
    faked.engine("")
    with faked.start(*rebuild, *small[:2]) as process:
        process.communicate()
    assert set(recorded(tmp_path / "out")) == {"bfloat16"}
    assert faked.embedded() < 20 + n_before
