"""What a width keeps: a literal second calculation, for metrics of either direction."""

from __future__ import annotations

import numpy as np
import pytest

from slimpath.training.bootstrap import Bootstrap
from slimpath.training.eval_kept import kept_shares
from slimpath.training.eval_measure import Evidence
from slimpath.training.eval_runner import Configuration
from slimpath.training.metrics import Accuracy, DepthError

IMAGES, WIDTHS = 60, (0.25, 0.5, 1.0)


def configuration(task: str, width: float) -> Configuration:
    return Configuration(task, width, 4, width)


def right(rng: np.random.Generator, chance: float) -> np.ndarray:
    return np.stack([rng.random(IMAGES) < chance, np.ones(IMAGES)], 1).astype(float)


def squared_errors(rng: np.random.Generator, size: float) -> np.ndarray:
    errors = size * (0.5 + rng.random(IMAGES))
    return np.stack([errors**2, errors, np.ones(IMAGES), np.ones(IMAGES)], 1)


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    sums = {configuration("scene", width): right(rng, 0.4 + 0.4 * width) for width in WIDTHS}
    sums |= {configuration("depth", width): squared_errors(rng, 1.5 - 0.8 * width) for width in WIDTHS}
    constant = {"scene": right(rng, 0.2), "depth": squared_errors(rng, 2.0)}
    return Evidence({"scene": Accuracy(), "depth": DepthError()}, sums, constant, constant)


def by_hand(evidence: Evidence, width: float, images: np.ndarray) -> float:
    """Accuracy is a share of images; the error is the root of the mean square over pixels (one an image here)."""

    def accuracy(sums: np.ndarray) -> float:
        return sum(sums[image][0] for image in images) / len(images)

    def error(sums: np.ndarray) -> float:
        return (sum(sums[image][0] for image in images) / len(images)) ** 0.5

    shares = []
    for task, figure in (("scene", accuracy), ("depth", error)):
        trivial = figure(evidence.constant[task])
        narrow, full = (figure(evidence.sums[configuration(task, each)]) for each in (width, 1.0))
        shares.append((narrow - trivial) / (full - trivial))
    return sum(shares) / 2


def test_mean_share_and_interval_are_those_of_a_literal_calculation(evidence: Evidence):
    bootstrap = Bootstrap(IMAGES, resamples=300, seed=5)
    kept = kept_shares(list(evidence.sums), evidence, bootstrap)
    assert [each.width for each in kept] == [0.25, 0.5]
    counts = np.random.default_rng(5).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=300)
    for each in kept:
        assert each.mean.value == pytest.approx(by_hand(evidence, each.width, np.arange(IMAGES)))
        resampled = [by_hand(evidence, each.width, np.repeat(np.arange(IMAGES), count)) for count in counts]
        assert (each.mean.low, each.mean.high) == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])))
        assert np.mean(list(each.tasks.values())) == pytest.approx(each.mean.value)


def test_equal_answers_keep_all_of_it_for_certain(evidence: Evidence):
    for task in ("scene", "depth"):
        evidence.sums[configuration(task, 0.5)] = evidence.sums[configuration(task, 1.0)]
    half = kept_shares(list(evidence.sums), evidence, Bootstrap(IMAGES, resamples=200))[1]
    assert (half.mean.low, half.mean.value, half.mean.high) == pytest.approx((1, 1, 1))


def test_task_that_is_no_better_than_trivial_has_nothing_to_keep(evidence: Evidence):
    evidence.constant["depth"] = squared_errors(np.random.default_rng(1), 0.01)
    kept = kept_shares(list(evidence.sums), evidence, Bootstrap(IMAGES, resamples=200))
    assert [set(each.tasks) for each in kept] == [{"scene"}, {"scene"}]


def test_one_width_alone_has_nothing_to_be_compared_with(evidence: Evidence):
    chosen = [configuration("scene", 1.0), configuration("depth", 1.0)]
    assert kept_shares(chosen, evidence, Bootstrap(IMAGES, resamples=50)) == []
    assert kept_shares([], evidence, Bootstrap(IMAGES, resamples=50)) == []
