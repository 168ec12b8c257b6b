"""Metrics of depth and surface normals. See `metrics`."""

from __future__ import annotations

import numpy as np

__all__ = ["DepthError", "NormalsError"]


class DepthError:
    """Sums: squared, relative, absolute, squared relative, squared log and log10 errors, pixels within a factor of
    1.25, of its square and of its cube, valid pixels.

    Answers count as at least 1e-9 (the published evaluators clamp them so), for the logarithms.
    """

    name, higher_is_better = "RMSE", False
    factors = (1.25, 1.25**2, 1.25**3)

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        valid = np.isfinite(truth) & (truth > 0)
        metres, true = np.maximum(answer[valid].astype(np.float64), 1e-9), truth[valid].astype(np.float64)
        error, ratio = metres - true, np.maximum(metres / true, true / metres)
        log = np.log(metres / true)
        errors = (error**2, np.abs(error) / true, np.abs(error), error**2 / true, log**2, np.abs(log) / np.log(10))
        near = (ratio < factor for factor in self.factors)
        return np.array([*(part.sum() for part in (*errors, *near)), len(true)], np.float64)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return np.sqrt(_mean(sums[..., 0], sums[..., -1]))

    def compared(self, sums: np.ndarray) -> np.ndarray:
        return self.value(sums)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        means = _mean(sums[:-1], sums[-1])
        names = ("absrel", "abs", "sqrel", "RMSE log", "log10", "delta < 1.25", "delta < 1.25^2", "delta < 1.25^3")
        values = (*means[1:4], np.sqrt(means[4]), *means[5:])
        return {name: float(value) for name, value in zip(names, values, strict=True)}


class NormalsError:
    """Sums: degrees, pixels within each of the limits, valid pixels."""

    name, higher_is_better = "mErr", False
    limits_deg = (11.25, 22.5, 30.0)

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        unit, true, valid = _unit(answer), _unit(truth), _lengths(truth) > 0.5
        # Exact for small angles too, where the arc cosine of a dot product is noise.
        angle = np.degrees(2 * np.arctan2(_lengths(unit - true), _lengths(unit + true)))[valid]
        return np.array(
            [angle.sum(dtype=np.float64), *((angle < limit).sum() for limit in self.limits_deg), len(angle)]
        )

    def value(self, sums: np.ndarray) -> np.ndarray:
        return _mean(sums[..., 0], sums[..., -1])

    def compared(self, sums: np.ndarray) -> np.ndarray:
        return self.value(sums)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return {f"within {limit:g} deg": float(_mean(n, sums[-1])) for limit, n in zip(self.limits_deg, sums[1:-1])}


def _lengths(vectors_HW3: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("hwc,hwc->hw", vectors_HW3, vectors_HW3))


def _unit(vectors_HW3: np.ndarray) -> np.ndarray:
    return vectors_HW3 / np.maximum(_lengths(vectors_HW3), 1e-6)[..., None]


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean; NaN of nothing, as where a resample drew only pictures without a label."""
    total, count = np.broadcast_arrays(total, count)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
