"""Further published figures, each against a transcription in numpy of how the evaluators of the time computed it.

Sources: Vandenhende et al., Multi-Task-Learning-PyTorch @ ed3d9ac (`evaluation/eval_sal.py`, `eval_depth.py`); Eigen et
al. 2014 for the depth figures; the second sigmoid and beta^2 = 0.3 are those of InvPT and MTLoRA.
"""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.training.metrics import DepthError, Metric, SaliencyF

RNG = np.random.default_rng(3)


def of_set(metric: Metric, answers: list[np.ndarray], truths: list[np.ndarray]) -> np.ndarray:
    return np.sum([metric.sums(a, t) for a, t in zip(answers, truths, strict=True)], axis=0)


def saliency_set() -> tuple[list[np.ndarray], list[np.ndarray]]:
    truths = [(RNG.random((9, 11)) < share).astype(np.uint8) for share in (0.4, 0.1, 0.0)]
    answers = [(0.25 * t + 0.003 + 0.7 * RNG.random(t.shape)).astype(np.float32) for t in truths]
    answers[2] *= 0.1  # nothing there, and nothing answered: counts as 1
    return answers, truths


def test_saliency_miou_is_the_best_mean_over_images():
    answers, truths = saliency_set()
    means = []
    for threshold in np.linspace(0.2, 0.9, 15):
        ious = []
        for answer, truth in zip(answers, truths, strict=True):
            mask, true = answer > threshold, truth == 1
            ious.append(1.0 if not mask.any() and not true.any() else (mask & true).sum() / (mask | true).sum())
        means.append(np.mean(ious))
    sums = of_set(SaliencyF(), answers, truths)
    assert SaliencyF().details(sums)["mIoU"] == pytest.approx(max(means))
    assert float(SaliencyF().compared(sums)) == pytest.approx(max(means))
    assert SaliencyF().compared(np.stack([sums, 2 * sums])) == pytest.approx([max(means)] * 2)


def test_saliency_f1_is_of_mean_precision_and_mean_recall():
    answers, truths = saliency_set()
    best = 0.0
    for threshold in np.linspace(0.2, 0.9, 15):
        precisions, recalls = [], []
        for answer, truth in zip(answers, truths, strict=True):
            mask, true = answer > threshold, truth == 1
            right = (mask & true).sum()
            precisions.append(right / (mask.sum() + 1e-12))
            recalls.append(right / (true.sum() + 1e-12))
        precision, recall = np.mean(precisions), np.mean(recalls)
        best = max(best, 2 * precision * recall / (precision + recall + 1e-12))
    assert SaliencyF().details(of_set(SaliencyF(), answers, truths))["maxF1 of means"] == pytest.approx(best)


def test_saliency_behind_a_second_sigmoid_is_the_f_of_squeezed_probabilities():
    answers, truths = saliency_set()
    squeezed = np.concatenate([1 / (1 + np.exp(-a.astype(np.float64))).ravel() for a in answers])
    true = np.concatenate([t.ravel() for t in truths]) == 1
    best = 0.0
    for threshold in (0.05 * step for step in range(1, 20)):
        mask = squeezed >= threshold
        if right := int((mask & true).sum()):
            precision, recall = right / mask.sum(), right / true.sum()
            best = max(best, 1.3 * precision * recall / (0.3 * precision + recall))
    found = SaliencyF().details(of_set(SaliencyF(), answers, truths))
    assert found["maxF behind a second sigmoid"] == pytest.approx(best)
    assert best < float(SaliencyF().value(of_set(SaliencyF(), answers, truths)))  # what the quirk costs


def test_depth_figures_are_eigens():
    truths = [RNG.uniform(0.5, 8, (6, 7)).astype(np.float32) for _ in range(3)]
    answers = [(t * RNG.uniform(0.4, 2.2, t.shape)).astype(np.float32) for t in truths]
    truths[1][0] = 0
    answers[0][0, 0] = -1  # clamped to 1e-9, as published
    p = np.concatenate([a[t > 0] for a, t in zip(answers, truths, strict=True)]).astype(np.float64)
    d = np.concatenate([t[t > 0] for t in truths]).astype(np.float64)
    p[p <= 0] = 1e-9
    expected = {
        "absrel": np.mean(np.abs(p - d) / d),
        "abs": np.mean(np.abs(p - d)),
        "sqrel": np.mean((p - d) ** 2 / d),
        "RMSE log": np.sqrt(np.mean((np.log(p) - np.log(d)) ** 2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(d))),
        **{
            f"delta < 1.25{power}": np.mean(np.maximum(p / d, d / p) < 1.25**exponent)
            for exponent, power in ((1, ""), (2, "^2"), (3, "^3"))
        },
    }
    sums = of_set(DepthError(), answers, truths)
    assert DepthError().details(sums) == pytest.approx(expected)
    assert float(DepthError().value(sums)) == pytest.approx(np.sqrt(np.mean((p - d) ** 2)))


def test_figures_of_nothing_are_no_numbers_and_raise_nothing():
    sums = DepthError().sums(np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32))
    assert np.isnan(DepthError().value(sums)) and np.isnan(DepthError().details(sums)["absrel"])
