"""Metrics against torchmetrics, where it has them: it sees batch after batch, slimpath's sums are added over images."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.metrics import Accuracy, DepthError, MeanIoU, Metric, NormalsError, SaliencyF

pytest.importorskip("torchmetrics", reason="torchmetrics is in slimpath[dev]")

from torchmetrics import (
    CosineSimilarity,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
)
from torchmetrics.classification import (
    BinaryFBetaScore,
    BinaryPrecision,
    BinaryRecall,
    MulticlassAccuracy,
    MulticlassJaccardIndex,
)

SEEDS = st.integers(0, 10_000)
Pairs = list[tuple[np.ndarray, np.ndarray]]


def summed(metric: Metric, pairs: Pairs) -> np.ndarray:
    return np.sum([metric.sums(answer, truth) for answer, truth in pairs], axis=0)


def theirs(metric: Any, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """What torchmetrics says after it has seen every image."""
    for answer, truth in pairs:
        metric.update(torch.from_numpy(np.ascontiguousarray(answer)), torch.from_numpy(np.ascontiguousarray(truth)))
    return metric.compute().numpy()


def class_maps(seed: int, classes: int) -> Pairs:
    """Three images; some pixels have no label, and half the answers are right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (3, 8, 9))
    answer = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, classes, truth.shape))
    truth[rng.random(truth.shape) < 0.1] = 255
    return list(zip(answer, truth))


@given(seed=SEEDS, classes=st.integers(3, 7))
@settings(max_examples=25, deadline=None)
def test_mean_iou_and_pixel_accuracy(seed: int, classes: int):
    pairs, metric = class_maps(seed, classes), MeanIoU(classes + 1)  # the last class never occurs
    sums = summed(metric, pairs)
    jaccard = MulticlassJaccardIndex(classes + 1, average="macro", ignore_index=255)
    assert float(metric.value(sums)) == pytest.approx(float(theirs(jaccard, pairs)), rel=1e-6)
    each = theirs(MulticlassJaccardIndex(classes + 1, average=None, ignore_index=255), pairs)
    details = metric.details(sums)
    for k in range(classes):
        assert details[f"IoU of class {k}"] == pytest.approx(float(each[k]), rel=1e-6)
    micro = MulticlassAccuracy(classes + 1, average="micro", ignore_index=255)
    assert details["pixel accuracy"] == pytest.approx(float(theirs(micro, pairs)), rel=1e-6)


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_rmse_absolute_and_relative_error_of_depth(seed: int):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 9, (3, 7, 8))
    answer = truth * rng.uniform(0.5, 2, truth.shape)
    truth[rng.random(truth.shape) < 0.2] = 0
    pairs, metric = list(zip(answer, truth)), DepthError()
    valid = [(a[t > 0], t[t > 0]) for a, t in pairs]  # torchmetrics knows no pixels without a label
    sums = summed(metric, pairs)
    details = metric.details(sums)
    root = MeanSquaredError(squared=False).set_dtype(torch.float64)
    assert float(metric.value(sums)) == pytest.approx(float(theirs(root, valid)), rel=1e-6)
    absolute = MeanAbsoluteError().set_dtype(torch.float64)
    assert details["abs"] == pytest.approx(float(theirs(absolute, valid)), rel=1e-6)
    relative = MeanAbsolutePercentageError().set_dtype(torch.float64)
    assert details["absrel"] == pytest.approx(float(theirs(relative, valid)), rel=1e-6)
    logs = MeanSquaredError(squared=False).set_dtype(torch.float64)
    assert details["RMSE log"] == pytest.approx(
        float(theirs(logs, [(np.log(a), np.log(t)) for a, t in valid])), rel=1e-6
    )


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_angle_of_normals_is_that_of_their_cosine(seed: int):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(2, 5, 6, 3))
    truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
    answer = truth + rng.normal(scale=0.5, size=truth.shape)
    metric = NormalsError()
    flat = [(a.reshape(-1, 3), t.reshape(-1, 3)) for a, t in zip(answer, truth)]
    cosine = theirs(CosineSimilarity(reduction="none"), flat)
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
    sums = summed(metric, list(zip(answer, truth)))
    assert float(metric.value(sums)) == pytest.approx(angle.mean(), rel=1e-4)
    assert metric.details(sums)["within 30 deg"] == pytest.approx((angle < 30).mean(), abs=1e-9)


@given(seed=SEEDS)
@settings(max_examples=6, deadline=None)
def test_best_saliency_f_over_thresholds_with_its_precision_and_recall(seed: int):
    rng = np.random.default_rng(seed)
    truth = (rng.random((2, 9, 9)) < 0.4).astype(np.uint8)
    truth[:, 0, 0] = 1
    answer = np.clip(0.5 * truth + 0.6 * rng.random(truth.shape), 0, 0.999).astype(np.float32)
    metric, pairs = SaliencyF(), list(zip(answer, truth))
    at = {
        float(t): float(theirs(BinaryFBetaScore(math.sqrt(metric.beta2), threshold=float(t)), pairs))
        for t in metric.thresholds_T
    }
    sums = summed(metric, pairs)
    assert float(metric.value(sums)) == pytest.approx(max(at.values()), rel=1e-5)
    details = metric.details(sums)
    threshold = details["threshold"]
    assert at[threshold] == pytest.approx(max(at.values()), rel=1e-5)
    for name, kind in (("precision", BinaryPrecision), ("recall", BinaryRecall)):
        assert details[name] == pytest.approx(float(theirs(kind(threshold=threshold), pairs)), rel=1e-5)


@given(seed=SEEDS, classes=st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_accuracy_of_image_classes(seed: int, classes: int):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, 12)
    answer = rng.dirichlet(np.ones(classes), 12)
    metric = Accuracy()
    found = float(metric.value(summed(metric, list(zip(answer, truth)))))
    micro = MulticlassAccuracy(classes, average="micro")
    assert found == pytest.approx(float(theirs(micro, [(a[None], t[None]) for a, t in zip(answer, truth)])), abs=1e-6)
