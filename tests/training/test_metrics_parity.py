"""Metrics against independent implementations in scipy and scikit-image; test_metrics.py has their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist, jaccard
from scipy.spatial.transform import Rotation
from skimage.metrics import mean_squared_error

from slimpath.training.edge_match import MAX_DISTANCE, match_counts, thin
from slimpath.training.metrics import DepthError, MeanIoU, NormalsError, SaliencyF

SEEDS = st.integers(0, 10_000)


@given(seed=SEEDS, classes=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_iou_of_each_class_is_one_minus_scipys_jaccard_distance(seed: int, classes: int):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (3, 8, 9)).astype(np.uint8)
    answer = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, classes, truth.shape)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    metric, known = MeanIoU(classes), truth != 255
    found = float(metric.value(np.sum([metric.sums(a, t) for a, t in zip(answer, truth)], axis=0)))
    expected = [1 - jaccard(answer[known] == k, truth[known] == k) for k in range(classes)]
    there = [((answer == k) | (truth == k))[known].any() for k in range(classes)]
    assert found == pytest.approx(np.mean([iou for iou, seen in zip(expected, there) if seen]))


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_rmse_is_the_root_of_scikit_images_mean_squared_error(seed: int):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 9, (7, 8)).astype(np.float32)
    answer = (truth * rng.uniform(0.5, 2, truth.shape)).astype(np.float32)
    truth[rng.random(truth.shape) < 0.2] = 0
    valid, metric = truth > 0, DepthError()
    expected = math.sqrt(mean_squared_error(truth[valid].astype(np.float64), answer[valid].astype(np.float64)))
    assert float(metric.value(metric.sums(answer, truth))) == pytest.approx(expected, rel=1e-9)


@given(seed=SEEDS, degrees=st.floats(0.5, 179))
@settings(max_examples=30, deadline=None)
def test_normals_turned_by_scipy_are_off_by_that_angle(seed: int, degrees: float):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(5, 6, 3))
    truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
    axes = np.cross(truth.reshape(-1, 3), rng.normal(size=(30, 3)))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    turned = Rotation.from_rotvec(np.radians(degrees) * axes).apply(truth.reshape(-1, 3)).reshape(truth.shape)
    metric = NormalsError()
    assert float(metric.value(metric.sums(turned, truth))) == pytest.approx(degrees, rel=1e-6)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_edges_of_one_line_each_match_as_scipys_maximum_matching(seed: int):
    """Where answers and truth are single pixels the quick matching has to be exact up to its symmetric mean."""
    rng = np.random.default_rng(seed)
    truth, answer = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.float32)
    # One pixel in each cell of 16 x 16: no pixel can reach two.
    for y, x in np.ndindex(4, 4):
        truth[16 * y + 6 + rng.integers(4), 16 * x + 6 + rng.integers(4)] = 1
        answer[16 * y + 6 + rng.integers(4), 16 * x + 6 + rng.integers(4)] = 1
    ridges = thin(answer)
    distance = MAX_DISTANCE * math.hypot(64, 64)
    reach = cdist(np.argwhere(ridges >= 0.5), np.argwhere(truth)) <= distance
    pairs = int((maximum_bipartite_matching(csr_array(reach), perm_type="column") >= 0).sum())
    found, answered, true = match_counts(answer, truth, np.array([0.5], np.float32))[:, 0]
    assert (found, answered, true) == (pairs, (ridges >= 0.5).sum(), 16)


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_best_saliency_f_is_dices_relative_where_beta_is_one(seed: int):
    """F1 is 2 J / (1 + J) of scipy's Jaccard index at the same threshold."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((9, 9)) < 0.4).astype(np.uint8)
    truth[0, 0] = 1
    answer = np.clip(0.5 * truth + 0.6 * rng.random(truth.shape), 0, 0.999).astype(np.float32)
    metric = SaliencyF()
    metric.beta2 = 1.0
    similar = [1 - jaccard(answer.ravel() >= t, truth.ravel() == 1) for t in metric.thresholds_T]
    expected = max(2 * index / (1 + index) for index in similar)
    assert float(metric.value(metric.sums(answer, truth))) == pytest.approx(expected, rel=1e-6)
