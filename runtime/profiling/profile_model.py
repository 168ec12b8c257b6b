"""From measured points to any point: a simple law, then what the law misses, interpolated from its neighbours.

The law is a sum of terms that may not be negative (a constant, FLOPs of each kind, ...), fitted to relative errors.
What is left, log(measured / law), varies slowly, and is interpolated by kriging with the kernel exp(-distance): at a
measured point the answer is the measurement, on a line between two it is nearly linear, and far from everything only
the law remains.
Source of the interpolation: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 2.
Axes: N measured points, F terms of the law, D coordinates, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

_LENGTH = 4.0  # how far what the law misses reaches: between two widths it is nearly linear, not back at the law
_LABEL_DISTANCE = 4.0  # between points that differ in a label (task, precision); halving a width is 1
_NUGGET = 1e-3  # variance of a measurement relative to that of what the law misses: two measurements may disagree
_PRIOR = 0.05  # weight of "everything runs at the same FLOPs per second": decides only where measurements do not


@dataclass(frozen=True)
class Spot:
    """Where a point lies.

    Args:
        terms: [F], what the law multiplies; the first is 1.
        flops_terms: how many terms after the first are FLOPs.
        numbers: [D], coordinates such that a distance of 1 is a noticeable change (log2 of widths, rows, ...).
        labels: [L], what has no order (task, precision).
    """

    terms: tuple[float, ...]
    flops_terms: int
    numbers: tuple[float, ...]
    labels: tuple[str, ...] = ()


class Surface:
    """A positive quantity, known at some spots, asked at others.

    Args:
        spots: at least one, all with the same numbers of terms, coordinates and labels.
        values: above 0.
    """

    def __init__(self, spots: Sequence[Spot], values: Sequence[float]) -> None:
        terms_NF = np.array([spot.terms for spot in spots], float)
        values_N = np.array(values, float)
        self._law_F = _fit_law(terms_NF, values_N, spots[0].flops_terms)
        self._numbers_ND = np.array([spot.numbers for spot in spots], float)
        self._labels_NL = np.array([spot.labels for spot in spots], dtype=str).reshape(len(spots), -1)
        missed_N = np.log(values_N / np.maximum(terms_NF @ self._law_F, 1e-12))
        distance_NN = np.stack([self._distance(spot) for spot in spots])
        self._weights_N = np.linalg.solve(np.exp(-distance_NN / _LENGTH) + _NUGGET * np.eye(len(spots)), missed_N)

    def at(self, spot: Spot) -> float:
        """The quantity there."""
        law = max(float(np.dot(spot.terms, self._law_F)), 1e-12)
        return law * float(np.exp(np.exp(-self._distance(spot) / _LENGTH) @ self._weights_N))

    def _distance(self, spot: Spot) -> np.ndarray:
        return spot_distances(self._numbers_ND, self._labels_NL, spot)


def spot_distances(numbers_ND: np.ndarray, labels_NL: np.ndarray, spot: Spot) -> np.ndarray:
    """[N], how far points are from a spot: Euclidean, a differing label counting as one more coordinate."""
    squared_N = ((numbers_ND - np.array(spot.numbers)) ** 2).sum(axis=1)
    if spot.labels:
        squared_N += _LABEL_DISTANCE**2 * (labels_NL != np.array(spot.labels, dtype=str)).sum(axis=1)
    return np.sqrt(squared_N)


def fit_terms(terms_NF: np.ndarray, values_N: np.ndarray) -> np.ndarray:
    """[F], none negative, with the least sum of squares of |terms @ fit - values|.

    By trying every subset of the terms: exact, and quick for the five or fewer that there are here.
    """
    count = terms_NF.shape[1]
    best_F, least = np.zeros(count), float(values_N @ values_N)
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            fit, *_ = np.linalg.lstsq(terms_NF[:, chosen], values_N, rcond=None)
            missed = terms_NF[:, chosen] @ fit - values_N
            if (fit >= 0).all() and float(missed @ missed) < least * (1 - 1e-9):
                least = float(missed @ missed)
                best_F = np.zeros(count)
                best_F[list(chosen)] = fit
    return best_F


def _fit_law(terms_NF: np.ndarray, values_N: np.ndarray, flops_terms: int) -> np.ndarray:
    """The law, by relative errors, held together by a faint prior where there are fewer points than terms."""
    size_F = np.maximum(np.abs(terms_NF / values_N[:, None]).mean(axis=0), 1e-30)  # what one unit of a term adds
    flops_N = terms_NF[:, 1 : 1 + flops_terms].sum(axis=1)
    rate = float(np.median(values_N / np.maximum(flops_N, 1e-12))) if flops_terms else 0.0
    expected_F = np.array([rate if 1 <= index <= flops_terms else 0.0 for index in range(terms_NF.shape[1])])
    if not flops_terms:
        expected_F[0] = float(np.median(values_N))
    rows = np.concatenate([terms_NF / values_N[:, None], _PRIOR * np.diag(size_F)])
    return fit_terms(rows, np.concatenate([np.ones(len(values_N)), _PRIOR * size_F * expected_F]))
