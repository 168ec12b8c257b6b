"""Every metric against a transcription of its definition in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpath.training.errors import EvaluationError
from slimpath.training.metrics import (
    Accuracy,
    DepthError,
    EdgeF,
    MeanIoU,
    Metric,
    NormalsError,
    SaliencyF,
    metric_for,
)

RNG = np.random.default_rng(7)
CLOSE = 1e-6


def of_set(metric: Metric, answers: list[np.ndarray], truths: list[np.ndarray]) -> float:
    return float(metric.value(np.sum([metric.sums(a, t) for a, t in zip(answers, truths, strict=True)], axis=0)))


def details(metric: Metric, answers: list[np.ndarray], truths: list[np.ndarray]) -> dict[str, float]:
    return metric.details(np.sum([metric.sums(a, t) for a, t in zip(answers, truths, strict=True)], axis=0))


def test_miou_accumulates_classes_over_the_set_and_ignores_void():
    truths = [RNG.integers(0, 4, (6, 7)).astype(np.uint8) for _ in range(3)]
    answers = [np.where(RNG.random((6, 7)) < 0.6, t, RNG.integers(0, 4, (6, 7))).astype(np.uint8) for t in truths]
    truths[1][:2] = 255
    ious = []
    for k in range(5):  # class 4 is never there: it does not count
        right = wrong = 0
        for answer, truth in zip(answers, truths, strict=True):
            for a, t in zip(answer.flat, truth.flat, strict=True):
                if t != 255:
                    right += int(a == k and t == k)
                    wrong += int((a == k) != (t == k))
        if right + wrong:
            ious.append(right / (right + wrong))
    assert len(ious) == 4
    assert of_set(MeanIoU(5), answers, truths) == pytest.approx(np.mean(ious), rel=CLOSE)
    found = details(MeanIoU(5, ("a", "b", "c", "d", "e")), answers, truths)
    assert found["IoU of c"] == pytest.approx(ious[2], rel=CLOSE) and "IoU of e" not in found


def test_miou_of_a_class_that_is_only_answered_is_zero():
    truth, answer = np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 1]], np.uint8)
    assert of_set(MeanIoU(3), [answer], [truth]) == pytest.approx((3 / 4 + 0) / 2)


def test_rmse_is_pixel_wise_over_the_set():
    truths = [RNG.uniform(1, 6, (5, 6)).astype(np.float32) for _ in range(3)]
    answers = [(t * RNG.uniform(0.6, 1.5, t.shape)).astype(np.float32) for t in truths]
    truths[0][0, :3], truths[2][1, 1] = 0, np.inf
    squares, relative, near = [], [], []
    for answer, truth in zip(answers, truths, strict=True):
        for a, t in zip(answer.flat, truth.flat, strict=True):
            if 0 < t < math.inf:
                squares.append((float(a) - float(t)) ** 2)
                relative.append(abs(float(a) - float(t)) / float(t))
                near.append(max(a / t, t / a) < 1.25)
    assert of_set(DepthError(), answers, truths) == pytest.approx(math.sqrt(np.mean(squares)), rel=CLOSE)
    found = details(DepthError(), answers, truths)
    assert found["absrel"] == pytest.approx(np.mean(relative), rel=CLOSE)
    assert found["delta < 1.25"] == pytest.approx(np.mean(near), rel=CLOSE)


def test_normals_error_is_the_mean_angle_of_valid_pixels():
    truths = [RNG.normal(size=(4, 5, 3)) for _ in range(2)]
    truths = [(t / np.linalg.norm(t, axis=-1, keepdims=True)).astype(np.float32) for t in truths]
    answers = [(t + RNG.normal(0, 0.3, t.shape)).astype(np.float32) * 2 for t in truths]  # length must not matter
    truths[0][1] = 0
    angles = []
    for answer, truth in zip(answers, truths, strict=True):
        for a, t in zip(answer.reshape(-1, 3), truth.reshape(-1, 3), strict=True):
            if t.any():
                cosine = float(a @ t) / float(np.linalg.norm(a) * np.linalg.norm(t))
                angles.append(math.degrees(math.acos(max(-1.0, min(1.0, cosine)))))
    assert of_set(NormalsError(), answers, truths) == pytest.approx(np.mean(angles), rel=1e-4)
    found = details(NormalsError(), answers, truths)
    for limit in (11.25, 22.5, 30):
        assert found[f"within {limit:g} deg"] == pytest.approx(np.mean(np.array(angles) < limit))


@pytest.mark.parametrize("degrees", [0.0, 0.01, 90.0, 180.0])
def test_normals_error_is_exact_at_its_ends(degrees: float):
    angle = math.radians(degrees)
    truth, answer = np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    truth[..., 2], answer[..., 2], answer[..., 0] = 1, math.cos(angle), math.sin(angle)
    assert of_set(NormalsError(), [answer], [truth]) == pytest.approx(degrees, abs=1e-4)


def literal_max_f(answers: list[np.ndarray], truths: list[np.ndarray]) -> float:
    best = 0.0
    for threshold in (0.05 * step for step in range(1, 20)):
        right = answered = true = 0
        for answer, truth in zip(answers, truths, strict=True):
            for a, t in zip(answer.flat, truth.flat, strict=True):
                if t != 255:
                    right += int(a >= threshold and t == 1)
                    answered += int(a >= threshold)
                    true += int(t == 1)
        if right:
            precision, recall = right / answered, right / true
            best = max(best, 1.3 * precision * recall / (0.3 * precision + recall))
    return best


def test_saliency_f_takes_one_threshold_for_the_set():
    truths = [(RNG.random((6, 7)) < share).astype(np.uint8) for share in (0.3, 0.05, 0.0)]
    # Off the thresholds: float32 and float64 disagree on what reaches 0.15.
    answers = [(0.35 * t + 0.003 + RNG.integers(0, 60, t.shape) / 100).astype(np.float32) for t in truths]
    truths[0][0, 0] = 255
    assert of_set(SaliencyF(), answers, truths) == pytest.approx(literal_max_f(answers, truths), rel=CLOSE)


def test_pixel_that_just_reaches_a_threshold_is_answered_there_and_not_at_the_next():
    truth, answer = np.array([[1, 1, 0]], np.uint8), SaliencyF.thresholds_T[[9, 18, 0]][None]
    right, answered, true = SaliencyF().sums(answer, truth)[:57].reshape(3, 19)
    assert right.tolist() == [2] * 10 + [1] * 9
    assert answered.tolist() == [3] + [2] * 9 + [1] * 9
    assert true.tolist() == [2] * 19


def test_saliency_probability_passes_no_second_sigmoid():
    truth = np.array([[1, 0]], np.uint8)
    found = details(SaliencyF(), [np.array([[0.9, 0.2]], np.float32)], [truth])
    assert (found["precision"], found["recall"]) == (1, 1)
    assert 0.2 < found["threshold"] <= 0.9


def test_picture_without_a_label_of_saliency_is_no_image_of_its_means():
    truth, answer = np.array([[1, 0]], np.uint8), np.array([[0.1, 0.2]], np.float32)
    alone = SaliencyF().sums(answer, truth)
    nothing = SaliencyF().sums(answer, np.full((1, 2), 255, np.uint8))
    assert nothing.shape == alone.shape and not nothing.any()
    assert SaliencyF().compared(alone + nothing) == SaliencyF().compared(alone)


@given(share=st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_all_positive_answer_has_the_f_of_its_density(share: float):
    truth = (np.random.default_rng(0).random((30, 30)) < share).astype(np.uint8)
    density, ones = truth.mean(), np.ones((30, 30), np.float32)
    if density:
        assert of_set(SaliencyF(), [ones], [truth]) == pytest.approx(1.3 * density / (0.3 * density + 1), rel=CLOSE)
        assert of_set(EdgeF(), [ones], [truth]) == pytest.approx(2 * density / (density + 1), rel=CLOSE)


def test_room_accuracy_counts_images():
    answers = [np.array([0.1, 0.7, 0.2]), np.array([0.5, 0.4, 0.1]), np.array([0.2, 0.2, 0.6])]
    assert of_set(Accuracy(), answers, [np.array(1), np.array(1), np.array(2)]) == pytest.approx(2 / 3)


def test_sums_of_a_set_are_those_of_its_parts():
    """What the bootstrap rests on: a set twice over has the same value."""
    truth, answer = (RNG.random((16, 16)) < 0.2).astype(np.uint8), RNG.random((16, 16)).astype(np.float32)
    for metric in (SaliencyF(), EdgeF()):
        sums = metric.sums(answer, truth)
        stacked = np.stack([sums, 2 * sums, 0.5 * sums])
        assert metric.value(stacked) == pytest.approx([float(metric.value(sums))] * 3)


def test_every_task_has_its_metric_and_direction():
    tasks = {
        "semseg": ("mIoU", True),
        "human_parts": ("mIoU", True),
        "depth": ("RMSE", False),
        "normals": ("mErr", False),
        "edge": ("odsF", True),
        "saliency": ("maxF", True),
        "scene": ("accuracy", True),
    }
    for task, expected in tasks.items():
        metric = metric_for(task, 4)
        assert (metric.name, metric.higher_is_better) == expected
    with pytest.raises(EvaluationError, match="no metric for task 'albedo'"):
        metric_for("albedo", 3)
