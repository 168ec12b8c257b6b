"""How sure a value is: percentile bootstrap over images.

Every interval of one report uses the same resamples, so that differences are paired: a hard image is hard for both.

Axes: I images, S sums of a metric, N resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import Metric

__all__ = ["MAX_GAIN", "Bootstrap", "Interval", "relative_gain"]

MAX_GAIN = 99.0

_Number = Any  # np.float64 or an array of them: the same arithmetic


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Resamples of `images` images with replacement; equal arguments give equal resamples."""

    def __init__(self, images: int, *, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> None:
        rng = np.random.default_rng(seed)
        # How often each image is drawn. float64: the product below then is one call of the matrix library.
        self._counts_NI = rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)
        self._percentiles = (50 * (1 - level), 50 * (1 + level))

    def values(self, metric: Metric, sums_IS: np.ndarray) -> tuple[float, np.ndarray]:
        """The metric on all images, and on each resample [N]."""
        return self.of(metric.value, sums_IS)

    def of(self, figure: Callable[[np.ndarray], np.ndarray], sums_IS: np.ndarray) -> tuple[float, np.ndarray]:
        """A figure of summed rows [..., S] -> [...], on all images and on each resample [N]."""
        return float(figure(sums_IS.sum(axis=0))), figure(self._counts_NI @ sums_IS)

    def interval(self, metric: Metric, sums_IS: np.ndarray) -> Interval:
        """The metric with its interval."""
        return self.around(*self.values(metric, sums_IS))

    def compare(
        self, metric: Metric, sums_IS: np.ndarray, other_IS: np.ndarray, by: Callable[[_Number, _Number], _Number]
    ) -> Interval:
        """`by(value, other's value)` with its interval, both on the same resamples."""
        value, values_N = self.values(metric, sums_IS)
        other, others_N = self.values(metric, other_IS)
        return self.around(float(by(np.float64(value), np.float64(other))), by(values_N, others_N))

    def difference(self, metric: Metric, sums_IS: np.ndarray, other_IS: np.ndarray) -> Interval:
        """By how much the first is *better*: above 0 in favour of the first, whichever way the metric goes."""
        sign = 1.0 if metric.higher_is_better else -1.0
        return self.compare(metric, sums_IS, other_IS, lambda value, other: sign * (value - other))

    def improvement(self, metric: Metric, sums_IS: np.ndarray, other_IS: np.ndarray) -> Interval:
        """The relative gain of the first over the second; see `relative_gain`."""
        return self.compare(metric, sums_IS, other_IS, lambda value, other: relative_gain(metric, value, other))

    def around(self, value: float, values_N: np.ndarray) -> Interval:
        """A value with the interval that its values on the resamples span."""
        # Not a number: a resample that drew only pictures without a label. They say nothing.
        low, high = np.nanpercentile(values_N, self._percentiles)
        return Interval(value, float(low), float(high))


def relative_gain(metric: Metric, value: _Number, other: _Number) -> _Number:
    """0.2 = 20 % better than `other`: value / other - 1 if higher is better, 1 - value / other if lower is.

    Bounded by +-`MAX_GAIN`: over an `other` of 0 it would be infinite, and no interval could be told.
    """
    ratio = value / np.maximum(other, 1e-12)
    return np.clip(ratio - 1 if metric.higher_is_better else 1 - ratio, -MAX_GAIN, MAX_GAIN)
