"""Depth order: pairs that belong to their set, and shares against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.depth_order import (
    BASELINES,
    MIN_RATIO,
    ROWS_APART,
    Pairs,
    centre_bias,
    draw_pairs,
    order_share,
    vertical_gradient,
)

DISPARITY = np.random.default_rng(0).uniform(5, 60, (40, 50)).astype(np.float32)
DISPARITY[:4] = np.inf


@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_share_is_what_counting_gives(seed: int):
    depth = np.random.default_rng(seed).integers(1, 6, DISPARITY.shape).astype(np.float32)  # ties, too
    pairs = draw_pairs(DISPARITY, 400, same_row=bool(seed % 2), seed=seed)
    right = 0.0
    for (y, x), (v, u) in zip(pairs.first_P2, pairs.second_P2, strict=True):
        if depth[y, x] == depth[v, u]:
            right += 0.5
        elif (depth[y, x] < depth[v, u]) == (DISPARITY[y, x] > DISPARITY[v, u]):
            right += 1
    assert order_share(depth, DISPARITY, pairs) == pytest.approx(right / 400)


@pytest.mark.parametrize("same_row", [False, True])
def test_pairs_belong_to_their_set_and_are_known(same_row: bool):
    pairs = draw_pairs(DISPARITY, 5000, same_row=same_row)
    one, other = DISPARITY[tuple(pairs.first_P2.T)], DISPARITY[tuple(pairs.second_P2.T)]
    assert len(pairs) == 5000 and np.isfinite(one).all() and np.isfinite(other).all() and (one != other).all()
    rows = np.abs(pairs.first_P2[:, 0] - pairs.second_P2[:, 0])
    if same_row:
        assert rows.max() == ROWS_APART and (np.maximum(one / other, other / one) > MIN_RATIO).all()
    else:
        assert rows.max() > 20


def test_truth_orders_all_its_opposite_none_and_a_flat_map_half():
    pairs = draw_pairs(DISPARITY, 1000, same_row=False)
    depth = np.where(np.isfinite(DISPARITY), 1 / DISPARITY.astype(np.float64), 9)
    assert order_share(depth, DISPARITY, pairs) == 1
    assert order_share(-depth, DISPARITY, pairs) == 0
    assert order_share(np.ones_like(depth), DISPARITY, pairs) == 0.5
    assert order_share(depth**3 + 7, DISPARITY, pairs) == 1  # units and scale do not matter


def test_baselines_say_what_they_are_called():
    assert vertical_gradient((4, 5))[3, 0] < vertical_gradient((4, 5))[0, 4]
    middle = centre_bias((5, 7))
    assert np.unravel_index(middle.argmin(), (5, 7)) == (2, 3) and middle[0, 0] == middle[4, 6] == middle.max()
    assert list(BASELINES) == ["lower is nearer", "the middle is nearer"]


def test_rows_know_nothing_of_the_vertical_gradient_on_the_photograph():
    """scikit-image's motorcycle: the baselines that a model has to beat."""
    data = pytest.importorskip("skimage.data", reason="the photograph comes with scikit-image")
    disparity = data.stereo_motorcycle()[2]
    random, row = (draw_pairs(disparity, 20_000, same_row=same_row) for same_row in (False, True))
    gradient, middle = vertical_gradient(disparity.shape), centre_bias(disparity.shape)
    assert order_share(gradient, disparity, random) == pytest.approx(0.745, abs=0.015)
    assert order_share(gradient, disparity, row) == pytest.approx(0.505, abs=0.015)
    assert order_share(middle, disparity, row) == pytest.approx(0.72, abs=0.015)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="got none"):
        draw_pairs(np.full((3, 3), np.inf), 5, same_row=False)
    assert len(Pairs(np.zeros((0, 2), int), np.zeros((0, 2), int))) == 0
