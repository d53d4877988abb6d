"""Quality: the figures are those of a plain computation over all vectors at once, for any sample and any piece."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import Run, Store
from pipeline.tools import describe_quality, quality
from pipeline.vectors import to_numpy, to_unit_float16
from tests.support import HASHING, embed_corpus, write_jsonl
from tests.support.vectors import write_dataset

N, DIM = 600, 64


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a dataset of a model that was trained for more dims than it has, and for fewer."""
    return write_dataset(tmp_path_factory.mktemp("quality") / "out", 3, N // 3, dim=DIM, dims=(128, 64, 32, 8))


def measured(store: Store, n_sample: int) -> dict[str, Any]:
    return quality(store, store.read_manifest(), n_sample)


def vectors_of(store: Store) -> np.ndarray:
    table: pa.Table = ds.dataset(store.root / "data", format="parquet").to_table(columns=["embedding"])
    return to_numpy(table.column("embedding")).astype(np.float32)


def in_int8(full: np.ndarray) -> np.ndarray:
    low, high = full.min(axis=0), full.max(axis=0)
    restored: np.ndarray = low + np.rint((full - low) / (high - low) * 255) / 255 * (high - low)
    return restored


FORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float16": lambda full: full,
    "32 dims": lambda full: to_unit_float16(full, 32).astype(np.float32),
    "8 dims": lambda full: to_unit_float16(full, 8).astype(np.float32),
    "int8": in_int8,
    "binary": lambda full: np.where(full > 0, 1.0, -1.0),
}


def plain(full: np.ndarray, small: np.ndarray) -> tuple[float, float]:
    """Return recall and rank correlation with every passage as a query; a tie of scores is broken by full ones."""
    wanted, scores = full @ full.T, small @ small.T
    recalls, correlations = [], []
    for query in range(len(full)):
        others = np.arange(len(full)) != query
        best = np.sort(wanted[query][others])[-10]
        found = np.argsort(-scores[query][others], kind="stable")[:10]
        recalls.append(np.mean(wanted[query][others][found] >= best - 1e-6))
        pair = pd.DataFrame({"full": wanted[query][others], "small": scores[query][others]})
        correlations.append(float(pair.corr(method="spearman").to_numpy()[0, 1]))
    return float(np.mean(recalls)), float(np.mean(correlations))


@pytest.mark.parametrize("piece_bytes", [1 << 12, 4 << 20])
def test_the_figures_are_those_of_a_plain_computation(
    store: Store, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tools.passages.PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(sys.modules["pipeline.tools.quality"], "SCORES_BYTES", piece_bytes * 100)
    found = measured(store, N)
    full = vectors_of(store)
    assert [form["form"] for form in found["forms"]] == list(FORMS)
    for form in found["forms"]:
        recall, correlation = plain(full, FORMS[form["form"]](full))
        # Bits tie, and which of equal scores are among the ten depends on the pieces.
        assert form["recall"] == pytest.approx(recall, abs=0.02 if form["form"] == "binary" else 0.001)
        assert form["rank_correlation"] == pytest.approx(correlation, abs=0.001)


def test_smaller_vectors_cost_more_and_float16_costs_nothing(store: Store) -> None:
    forms = {form["form"]: form for form in measured(store, 200)["forms"]}
    assert (forms["float16"]["recall"], forms["float16"]["rank_correlation"]) == (1.0, 1.0)
    assert 1 > forms["int8"]["recall"] > forms["32 dims"]["recall"] > forms["8 dims"]["recall"] > 10 / N
    assert [form["vector_bytes"] for form in forms.values()] == [128, 64, 16, 64, 8]
    assert all(form["trained"] for form in forms.values())


def test_a_sample_is_the_same_each_time_and_near_the_whole(store: Store) -> None:
    once, again, whole = measured(store, 300), measured(store, 300), measured(store, N)
    assert once == again
    assert (once["queries"], whole["queries"], measured(store, 10 * N)["queries"]) == (300, N, N)
    for some, every in zip(once["forms"], whole["forms"], strict=True):
        assert abs(some["recall"] - every["recall"]) <= 2 * some["recall_error"]


def test_equal_passages_are_as_good_as_each_other(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", [{"id": i, "text": f"text {i % 3}"} for i in range(90)])
    assert embed_corpus("run", "--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING).returncode == 0
    forms = {form["form"]: form for form in measured(Store(root=tmp_path / "out"), 90)["forms"]}
    assert (forms["int8"]["recall"], forms["binary"]["recall"]) == (1.0, 1.0)


def test_it_says_what_it_cannot_know(store: Store, tmp_path: Path) -> None:
    assert any("cut from 128 dims" in note for note in measured(store, 10)["notes"])
    copy = Store(root=Path(shutil.copytree(store.root, tmp_path / "out")))
    copy.append(Run(state="incomplete", input="in", started_at=2.0))
    assert "the dataset is incomplete" in measured(copy, 10)["notes"]
    whole = write_dataset(tmp_path / "whole", 1, 50, dim=48, dims=(48,))
    found = measured(whole, 50)
    assert [(form["form"], form["trained"]) for form in found["forms"]][1:3] == [("24 dims", False), ("12 dims", False)]
    assert not any("cut from" in note for note in found["notes"])
    assert "24 dims          48" in describe_quality(found)
    assert "not trained for" in describe_quality(found)


@pytest.mark.parametrize("n", [2, 3])
def test_a_dataset_of_a_few_passages_is_measured(tmp_path: Path, n: int) -> None:
    found = measured(write_dataset(tmp_path / "out", 1, n, dim=8), 5)
    assert (found["k"], found["queries"]) == (n - 1, n)
    assert all(form["recall"] == 1.0 for form in found["forms"])
    assert (found["forms"][0]["rank_correlation"] is None) == (n == 2)
    assert "rank correlation" in describe_quality(found)


def test_the_command_prints_a_table_or_one_object(store: Store, tmp_path: Path) -> None:
    done = embed_corpus("quality", store.root, "--sample", "50")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("50 passages as queries against all 600, of 64 dims\n")
    found = json.loads(embed_corpus("quality", store.root, "--sample", "50", "--json").stdout)
    assert found == measured(store, 50)
    single = write_dataset(tmp_path / "one", 1, 1, dim=8)
    assert embed_corpus("quality", single.root).returncode == 2
    assert embed_corpus("quality", store.root, "--sample", "0").returncode == 2


def test_a_damaged_part_ends_it(store: Store, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store.root, tmp_path / "out"))
    part = sorted((copy / "data").iterdir())[1]
    pq.write_table(pq.read_table(part).slice(1), part)
    refused = embed_corpus("quality", copy)
    assert refused.returncode == 6
    assert part.name in refused.stderr
