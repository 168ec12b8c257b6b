"""The exact hypervolume against counting cells, against drawing places at random, and against what must hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.hypervolume import hypervolume, undominated

SEEDS = st.integers(0, 10_000)


def by_cells(points: np.ndarray, reference: np.ndarray) -> float:
    """Every cell of the grid that the points' coordinates cut is dominated as a whole, or not at all."""
    axes = [np.unique([r, *column[column > r]]) for r, column in zip(reference, points.T, strict=True)]
    total = 0.0
    for cell in itertools.product(*(range(len(axis) - 1) for axis in axes)):
        upper = np.array([axis[i + 1] for axis, i in zip(axes, cell, strict=True)])
        lower = np.array([axis[i] for axis, i in zip(axes, cell, strict=True)])
        if (points >= upper).all(axis=1).any():
            total += float((upper - lower).prod())
    return total


@given(seed=SEEDS, count=st.integers(1, 7), dimensions=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_volume_is_that_of_the_dominated_cells(seed: int, count: int, dimensions: int):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 6, (count, dimensions)) / 5  # ties and equal points, too
    reference = np.full(dimensions, 0.1)
    assert hypervolume(points, reference) == pytest.approx(by_cells(points, reference), abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3, 6])
def test_volume_is_the_share_of_random_places_below_a_point(dimensions: int):
    rng = np.random.default_rng(dimensions)
    points = rng.random((25, dimensions)) ** 0.25
    places = rng.random((40_000, dimensions))
    below = np.zeros(len(places), bool)
    for point in points:
        below |= (places <= point).all(axis=1)
    assert hypervolume(points, np.zeros(dimensions)) == pytest.approx(below.mean(), abs=0.015)  # 6 deviations


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_order_and_dominated_points_change_nothing_and_units_scale(seed: int):
    rng = np.random.default_rng(seed)
    points = rng.random((6, 3))
    volume = hypervolume(points, np.zeros(3))
    worse = points[:2] * rng.random((2, 3))
    assert hypervolume(np.vstack([points[::-1], worse]), np.zeros(3)) == pytest.approx(volume)
    assert hypervolume(points[:, [2, 0, 1]], np.zeros(3)) == pytest.approx(volume)
    assert hypervolume(points * [2, 3, 5], np.zeros(3)) == pytest.approx(30 * volume)


def test_points_at_or_below_the_reference_add_nothing():
    assert hypervolume(np.array([[0.0, 5.0], [-1.0, 9.0]]), np.zeros(2)) == 0
    assert hypervolume(np.empty((0, 3)), np.zeros(3)) == 0
    assert hypervolume(np.array([[2.0, 3.0], [0.0, 9.0]]), np.zeros(2)) == 6


def test_of_equal_points_one_is_kept():
    kept = undominated(np.array([[1.0, 2.0], [1.0, 2.0], [0.5, 2.0], [2.0, 1.0]]))
    assert sorted(map(tuple, kept)) == [(1.0, 2.0), (2.0, 1.0)]
