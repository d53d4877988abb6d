"""Vectors: cut, then of unit length, then float16; anything else is refused with its row."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import VectorError
from pipeline.vectors import UNIT_TOLERANCE, invalid_rows, to_unit_float16

components = st.floats(-1e3, 1e3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=components)


def some_vectors(n: int = 5, width: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)


@given(full=matrices, data=st.data())
def test_rows_are_cut_then_normalised_in_their_order(full: NDArray[np.float32], data: st.DataObject) -> None:
    dim = data.draw(st.integers(1, full.shape[1]))
    full[:, 0] = np.where(full[:, 0] == 0, 1, full[:, 0])
    found = to_unit_float16(full, dim)
    exact = full[:, :dim].astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert found.dtype == np.float16
    assert found.shape == (len(full), dim)
    np.testing.assert_allclose(found.astype(np.float64), exact, rtol=6e-4, atol=1e-7)
    assert not invalid_rows(found).any()


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-22, 1e-20, 1e-10, 1.0, 1e10, 1e18, 1e20, 1e37])
def test_vectors_of_extreme_length_are_made_unit_or_refused(scale: float) -> None:
    full = (some_vectors(width=4).astype(np.float64) * scale).astype(np.float32)
    try:
        found = to_unit_float16(full, 4)
    except VectorError:
        assert not 1e-10 <= scale <= 1e18
    else:
        assert not invalid_rows(found).any()


@pytest.mark.parametrize("width", [1, 64, 384, 3840, 16_384])
def test_rounding_to_float16_stays_within_the_tolerance(width: int) -> None:
    assert not invalid_rows(to_unit_float16(some_vectors(width=width), width)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 3])
def test_a_row_that_is_not_finite_is_refused_by_its_number(value: float, row: int) -> None:
    full = some_vectors()
    full[row, 7] = value
    with pytest.raises(VectorError, match=f"row {row}:"):
        to_unit_float16(full, 32)


def test_a_row_without_length_is_refused_by_its_number() -> None:
    full = some_vectors()
    full[2, :8] = 0
    to_unit_float16(full, 9)
    with pytest.raises(VectorError, match="row 2:"):
        to_unit_float16(full, 8)


def test_what_the_cut_leaves_out_does_not_matter() -> None:
    full = some_vectors()
    full[:, 8:] = np.nan
    assert not invalid_rows(to_unit_float16(full, 8)).any()


@pytest.mark.parametrize("shape", [(5,), (5, 31), (2, 5, 32), (0, 0)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VectorError, match="expected shape"):
        to_unit_float16(np.ones(shape, np.float32), 32)


def test_no_rows_are_no_vectors() -> None:
    assert to_unit_float16(np.empty((0, 32), np.float32), 8).shape == (0, 8)


def test_the_input_is_left_as_it_is() -> None:
    full = some_vectors()
    to_unit_float16(full, 32)
    assert np.array_equal(full, some_vectors())


@pytest.mark.parametrize("spoil", [np.nan, np.inf, 2.0, 0.0])
def test_defects_are_told_row_by_row(spoil: float) -> None:
    vectors = to_unit_float16(some_vectors(), 32)
    vectors[3] *= np.float16(spoil)
    with np.errstate(invalid="ignore"):
        assert invalid_rows(vectors).tolist() == [False, False, False, True, False]


def test_a_defect_is_more_than_the_tolerance() -> None:
    unit = np.zeros((3, 4), np.float32)
    unit[:, 0] = 1 - UNIT_TOLERANCE * 2, 1 - UNIT_TOLERANCE / 2, 1 + UNIT_TOLERANCE * 2
    assert invalid_rows(unit.astype(np.float16)).tolist() == [True, False, True]
