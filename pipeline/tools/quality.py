"""Quality: what fewer dims, int8 or bits cost on the vectors of a dataset, against all of them in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import Dataset, Manifest, Store, status, trained_widths
from pipeline.errors import UsageError
from pipeline.tools.passages import Vectors, passages_of
from pipeline.tools.quantize import Steps, calibrate, from_int8, to_bits, to_int8
from pipeline.vectors import to_unit_float16

SEED = 0
N_NEAREST = 10
SCORES_BYTES = 16 << 20  # of the scores of all queries that are in memory at a time
MAX_RANKED = 1_000  # of the sample, whose scores among each other are ranked
SAME = 1e-6  # between the scores of equal vectors


class HasVectors(Protocol):
    """Passages whose vectors can be read again and again, in one order."""

    @property
    def dataset(self) -> Dataset:
        """Whose passages they are."""
        ...

    @property
    def dim(self) -> int:
        """Components of a vector."""
        ...

    def __len__(self) -> int: ...

    def vectors(self) -> Iterator[Vectors]:
        """Yield all vectors in pieces, each of shape (n, dim)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Smaller vectors: `of` gives from those in float32 the ones whose inner products are the scores."""

    name: str
    dim: int
    vector_bytes: int
    is_trained: bool
    of: Callable[[Vectors], Vectors]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The best scores of each query so far, shape (n_queries, k), and those that the full vectors have there."""

    scores: Vectors
    full: Vectors

    def among(self, scores: Vectors, full: Vectors) -> None:
        """Take in the scores of more passages, shape (n_queries, n)."""
        k = self.scores.shape[1]
        better = np.flatnonzero(scores.max(axis=1) > self.scores.min(axis=1))
        joined = np.concatenate([self.scores[better], scores[better]], axis=1)
        best = np.argpartition(-joined, k - 1, axis=1)[:, :k]
        self.scores[better] = np.take_along_axis(joined, best, axis=1)
        joined = np.concatenate([self.full[better], full[better]], axis=1)
        self.full[better] = np.take_along_axis(joined, best, axis=1)


def quality(store: Store, manifest: Manifest, n_sample: int) -> dict[str, Any]:
    """Return how well smaller vectors find what the full ones find, as the object of `quality --json`.

    Some passages, chosen by a fixed seed, are the queries; each is compared with every other passage of the dataset.
    Raises UsageError for fewer than two passages, and DamageError for a part that cannot be read.
    """
    passages = passages_of(store, manifest)
    found = quality_of(passages, n_sample)
    return found | {"notes": _notes(passages, status(store, manifest)["state"])}


def quality_of(passages: HasVectors, n_sample: int) -> dict[str, Any]:
    """Return what `quality` does of some passages, without notes; raises as it does."""
    n = len(passages)
    if n < 2:
        raise UsageError(f"quality: expected two passages at least, found {n}")
    rows = np.sort(np.random.default_rng(SEED).choice(n, min(n_sample, n), replace=False))
    queries, steps = _first_look(passages, rows)
    forms = _forms(passages, steps)
    recalls = _recalls(passages, rows, queries, forms)
    measured = [
        {
            "form": form.name,
            "dim": form.dim,
            "vector_bytes": form.vector_bytes,
            "trained": form.is_trained,
            "recall": round(float(recall.mean()), 4),
            "recall_error": round(float(1.96 * recall.std() / np.sqrt(len(recall))), 4),
            "rank_correlation": _rank_correlation(queries[:MAX_RANKED], form),
        }
        for form, recall in zip(forms, recalls, strict=True)
    ]
    return {
        "passages": n,
        "dim": passages.dim,
        "queries": len(rows),
        "k": min(N_NEAREST, n - 1),
        "forms": measured,
    }


def _first_look(passages: HasVectors, rows: NDArray[np.int64]) -> tuple[Vectors, Steps]:
    """Return the vectors of some rows, and the steps of all for int8."""
    chosen: list[Vectors] = []

    def looked_at() -> Iterator[Vectors]:
        for start, vectors in _numbered(passages.vectors()):
            chosen.append(vectors[_within(rows, start, len(vectors)) - start])
            yield vectors

    steps = calibrate(looked_at())
    return np.concatenate(chosen), steps


def _recalls(
    passages: HasVectors, rows: NDArray[np.int64], queries: Vectors, forms: list[Form]
) -> list[NDArray[np.float64]]:
    """Return for each form and query which share of the nearest that the form finds are among the nearest."""
    k = min(N_NEAREST, len(passages) - 1)
    asked = [form.of(queries) for form in forms]
    best, *found = [
        Nearest(scores=np.full((len(rows), k), -np.inf, np.float32), full=np.full((len(rows), k), -np.inf, np.float32))
        for _ in range(len(forms) + 1)
    ]
    n_columns = max(64, SCORES_BYTES // (4 * len(rows)))
    for start, vectors in _numbered(passages.vectors(), n_columns):
        own = _within(rows, start, len(vectors))
        itself = np.searchsorted(rows, own), own - start
        full = queries @ vectors.T
        full[itself] = -np.inf
        best.among(full, full)
        for form, of_queries, nearest in zip(forms, asked, found, strict=True):
            scores = of_queries @ form.of(vectors).T
            scores[itself] = -np.inf
            nearest.among(scores, full)
    least = best.scores.min(axis=1, keepdims=True) - SAME
    return [(nearest.full >= least).mean(axis=1) for nearest in found]


def _numbered(pieces: Iterator[Vectors], n_rows: int | None = None) -> Iterator[tuple[int, Vectors]]:
    """Yield pieces of `n_rows` at most, each with the number of its first row."""
    start = 0
    for vectors in pieces:
        for at in range(0, len(vectors), n_rows or len(vectors)):
            piece = vectors[at : at + (n_rows or len(vectors))]
            yield start + at, piece
        start += len(vectors)


def _within(rows: NDArray[np.int64], start: int, n: int) -> NDArray[np.int64]:
    return rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + n)]


def _forms(passages: HasVectors, steps: Steps) -> list[Form]:
    """Return the trained widths below the dataset's, else a half and a quarter of it, and the other number types."""
    dim = passages.dim
    trained = sorted((width for width in trained_widths(passages.dataset) if width < dim), reverse=True)
    widths = trained or [width for width in (dim // 2, dim // 4) if width]

    def cut(width: int) -> Form:
        def of(vectors: Vectors) -> Vectors:
            return to_unit_float16(vectors, width).astype(np.float32)

        return Form(name=f"{width} dims", dim=width, vector_bytes=2 * width, is_trained=bool(trained), of=of)

    def signs(vectors: Vectors) -> Vectors:
        return 2 * np.unpackbits(to_bits(vectors), axis=1, count=dim).astype(np.float32) - 1

    return [
        Form(
            name="float16",
            dim=dim,
            vector_bytes=2 * dim,
            is_trained=True,
            of=lambda vectors: vectors.astype(np.float16).astype(np.float32),
        ),
        *map(cut, widths),
        Form(
            name="int8",
            dim=dim,
            vector_bytes=dim,
            is_trained=True,
            of=lambda vectors: from_int8(to_int8(vectors, steps), steps),
        ),
        Form(name="binary", dim=dim, vector_bytes=-(-dim // 8), is_trained=True, of=signs),
    ]


def _rank_correlation(queries: Vectors, form: Form) -> float | None:
    """Return Spearman's rank correlation of a form's scores with the full ones, over the sample, as a mean of the
    queries; None where there is nothing to rank."""
    from pandas import DataFrame

    smaller = form.of(queries)
    others = ~np.eye(len(queries), dtype=bool)
    ranks = [
        DataFrame(vectors @ vectors.T).where(others).rank(axis=1).to_numpy()[others].reshape(len(queries), -1)
        for vectors in (queries, smaller)
    ]
    full, small = (each - each.mean(axis=1, keepdims=True) for each in ranks)
    lengths = np.sqrt((full**2).sum(axis=1) * (small**2).sum(axis=1))
    ranked = lengths > 0
    return round(float(((full * small).sum(axis=1)[ranked] / lengths[ranked]).mean()), 4) if ranked.any() else None


def _notes(passages: HasVectors, state: str) -> list[str]:
    """Return what the figures do not say."""
    trained = trained_widths(passages.dataset)
    notes = [
        "the full vectors are the dataset's float16 ones in float32; what float16 lost of the model's own is not in it"
    ]
    if trained and passages.dim < max(trained):
        notes.append(f"the dataset was cut from {max(trained)} dims; what that cost cannot be measured from it")
    if not any(width < passages.dim for width in trained):
        notes.append("the model was not trained for fewer dims: a half and a quarter are cut all the same")
    if state != "complete":
        notes.append(f"the dataset is {state}")
    return notes


def describe_quality(found: dict[str, Any]) -> str:
    """Return in words what `quality` found."""
    lines = [
        f"{found['queries']:,} passages as queries against all {found['passages']:,}, of {found['dim']} dims",
        f"{'':<12}{'bytes':>7}  {'recall@' + str(found['k']):<18}rank correlation",
    ]
    for form in found["forms"]:
        correlation = "-" if form["rank_correlation"] is None else f"{form['rank_correlation']:.4f}"
        recall = f"{form['recall']:.4f} ± {form['recall_error']:.4f}"
        untrained = "" if form["trained"] else "  not trained for"
        lines.append(f"{form['form']:<12}{form['vector_bytes']:>7,}  {recall:<18}{correlation}{untrained}")
    return "\n".join([*lines, *found["notes"]])
