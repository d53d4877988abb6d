"""Gemma 3 on our vLLM engine against Hugging Face, at the shape of the production model but for its size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.vectors import to_unit_float16
from tests.support import REPOSITORY
from tests.support.checkpoints import DIMS

Vectors = Mapping[str, NDArray[np.float32]]
SHORT = ("causal-st", "bidirectional-text")
ALL = ("causal-lm", "causal-text", "causal-st", "bidirectional-text")


def run(checkpoints: Path, out: Path, dtype: str, *names: str) -> Vectors:
    command = [sys.executable, "-m", "tests.support.parity", str(checkpoints), str(out), dtype, *names]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as file:
        return dict(file)


def cosines(one: NDArray[np.float32], other: NDArray[np.float32], dim: int) -> NDArray[np.float64]:
    """Return the cosine of each pair of vectors as a dataset of `dim` components would hold them."""
    a, b = (to_unit_float16(vectors, dim).astype(np.float64) for vectors in (one, other))
    found: NDArray[np.float64] = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


@pytest.fixture(scope="module")
def short(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    return run(checkpoints, tmp_path_factory.mktemp("parity") / "short.npz", "float32", *SHORT)


def check(vectors: Vectors, name: str, least: float) -> None:
    """Expect the vectors of Hugging Face at every size, in a batch as alone."""
    assert vectors[f"{name}/batch"].shape[1] == DIMS[0]
    for dim in DIMS:
        assert cosines(vectors[f"{name}/batch"], vectors[f"{name}/eager"], dim).min() >= least
        assert cosines(vectors[f"{name}/batch"], vectors[f"{name}/alone"], dim).min() >= least


@pytest.mark.parametrize("name", SHORT)
def test_vllm_gives_the_vectors_of_hugging_face_at_every_size_alone_and_in_a_batch(short: Vectors, name: str) -> None:
    check(short, name, 0.9999)


def test_a_token_that_is_cut_off_gives_other_vectors(short: Vectors) -> None:
    assert cosines(short["causal-st/cut"], short["causal-st/batch"], DIMS[0]).max() < 0.9


def test_attention_that_no_file_tells_of_is_found_by_the_golden_check_on_vllm(short: Vectors) -> None:
    """The two checkpoints have the same weights, and the reference vectors are those of the second."""
    assert short["bidirectional-text/golden"].min() >= 0.9999
    assert short["causal-st/golden"].min() < 0.95


@pytest.fixture(scope="module")
def run_all(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Vectors]:
    return lambda dtype, *names: run(checkpoints, tmp_path_factory.mktemp("parity") / "all.npz", dtype, *names)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.9999), ("bfloat16", 0.995)])
def test_vllm_gives_the_vectors_of_hugging_face_for_every_kind_of_checkpoint(
    run_all: Callable[..., Vectors], dtype: str, least: float
) -> None:
    vectors = run_all(dtype, *ALL)
    for name in ALL:
        check(vectors, name, least)


@pytest.mark.slow
def test_what_the_guard_refuses_is_refused_for_a_reason(run_all: Callable[..., Vectors]) -> None:
    """When this fails because the vectors agree, vLLM has learnt to obey the checkpoint, and the guard may go."""
    vectors = run_all("float32", "bidirectional-lm")
    assert np.median(cosines(vectors["bidirectional-lm/batch"], vectors["bidirectional-lm/eager"], DIMS[0])) < 0.9
