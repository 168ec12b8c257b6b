"""Intervals: right width, right centre, paired."""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.training.bootstrap import MAX_GAIN, Bootstrap, relative_gain
from slimpath.training.metrics import Accuracy, DepthError


def hits(rng: np.random.Generator, images: int, chance: float) -> np.ndarray:
    return np.stack([rng.random(images) < chance, np.ones(images)], 1).astype(float)


def test_interval_covers_the_truth_about_95_times_in_100():
    covered = 0
    for trial in range(200):
        found = Bootstrap(120, resamples=400, seed=trial).interval(
            Accuracy(), hits(np.random.default_rng(1000 + trial), 120, 0.7)
        )
        covered += found.low <= 0.7 <= found.high
    assert 180 <= covered <= 198  # binomial(200, .95): 190 +- 3; the percentile method is a little narrow


def test_interval_has_the_width_that_theory_gives():
    found = Bootstrap(400).interval(Accuracy(), hits(np.random.default_rng(0), 400, 0.5))
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.1)
    assert found.low < found.value < found.high


def test_equal_seeds_give_equal_intervals():
    sums = hits(np.random.default_rng(0), 50, 0.5)
    assert Bootstrap(50, seed=4).interval(Accuracy(), sums) == Bootstrap(50, seed=4).interval(Accuracy(), sums)


def squared_errors(errors: np.ndarray) -> np.ndarray:
    return np.stack([errors**2, errors, np.ones_like(errors), np.ones_like(errors)], 1)


def test_paired_difference_sees_what_single_intervals_hide():
    """Images differ far more than the two models do."""
    hard = np.random.default_rng(0).exponential(1.0, 300) + 0.1
    better, worse = squared_errors(0.97 * hard), squared_errors(hard)
    bootstrap, metric = Bootstrap(300), DepthError()
    assert bootstrap.interval(metric, better).high > bootstrap.interval(metric, worse).low
    gain = bootstrap.difference(metric, better, worse)
    assert gain.low > 0  # lower is better: the smaller error counts as a gain
    assert gain.value == pytest.approx(0.03 * np.sqrt((hard**2).mean()))
    assert bootstrap.difference(metric, better, better).high == 0


def test_improvement_is_relative_whichever_way_the_metric_goes():
    bootstrap, ones = Bootstrap(10), np.ones(10)
    found = bootstrap.improvement(DepthError(), squared_errors(0.6 * ones), squared_errors(0.8 * ones))
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    accuracies = [np.stack([share * ones, ones], 1) for share in (0.9, 0.6)]
    assert bootstrap.improvement(Accuracy(), *accuracies).value == pytest.approx(0.5)


def test_gain_over_nothing_is_bounded():
    assert float(relative_gain(Accuracy(), np.float64(0.5), np.float64(0.0))) == MAX_GAIN
    assert float(relative_gain(DepthError(), np.float64(0.5), np.float64(0.0))) == -MAX_GAIN
