"""Edges, scored as BSDS does: thin the answer, pair it one to one with the truth within a small distance.

1. The answer is thinned: a pixel stays where it is at least as high as both neighbours across the ridge (non-maximum
   suppression, as in Structured Edges, Dollar & Zitnick 2013). Plateaus are thinned to their middle; a map that is
   flat everywhere stays as it is.
2. At each threshold, answered pixels are paired with true ones at most 0.0075 x the image's diagonal away (2.4 pixels
   at 224 x 224; 0.011 on NYUD, as published), each with at most one. Precision = pairs / answered pixels, recall =
   pairs / true pixels.

The benchmark solves the assignment; here the number of pairs is the middle of two bounds that are quick to find.
Greedy pairing, nearest first, cannot find more than there are; and there cannot be more than answered pixels near a
true one, or true ones near an answered one. On rendered edges that were moved, blurred and made noisy the bounds are
10 % below and 7 % above a maximum matching, their middle 1 to 3 % below (a test holds it). For an all-positive answer
it is exact.

Axes: H height, W width, T thresholds, P true pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from .tasks import IGNORED_CLASS

__all__ = ["MAX_DISTANCE", "match_counts", "thin"]

MAX_DISTANCE = 0.0075
"""Largest distance of a pair, as a share of the image's diagonal."""

_SLACK = 1.001  # rounding must not thin a flat map
_MIDDLE = 0.05  # this much of the smoothed map tells the middle of a plateau, as where probabilities saturate


def thin(probability_HW: np.ndarray) -> np.ndarray:
    """The map with everything but its ridges set to 0, float32."""
    probability_HW = np.ascontiguousarray(probability_HW, np.float32)
    smooth = cv2.GaussianBlur(probability_HW, (0, 0), 1.0)
    slope_x, slope_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    # Across the ridge is where the slopes of a neighbourhood point, either way (the structure tensor's first axis).
    # Curvature would do on the ridge itself, but turns on its flanks.
    xx, yy, xy = (cv2.GaussianBlur(part, (0, 0), 2.0) for part in (slope_x**2, slope_y**2, slope_x * slope_y))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    step_x, step_y = np.cos(angle), np.sin(angle)
    x, y = _pixel_places(*probability_HW.shape)
    height = probability_HW + np.float32(_MIDDLE) * smooth
    highest = np.maximum(
        cv2.remap(height, x + step_x, y + step_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        cv2.remap(height, x - step_x, y - step_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
    )
    return np.where(height * np.float32(_SLACK) >= highest, probability_HW, np.float32(0))


@lru_cache(maxsize=4)
def _pixel_places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def match_counts(
    probability_HW: np.ndarray, truth_HW: np.ndarray, thresholds_T: np.ndarray, max_distance: float = MAX_DISTANCE
) -> np.ndarray:
    """Pairs, answered pixels and true pixels at each threshold, float64 [3, T]; pairs may end in a half.

    Args:
        probability_HW: of an edge, not thinned.
        truth_HW: 1 on edges, 0 elsewhere, 255 where nobody knows (left out).
        thresholds_T: ascending, at most 64.
        max_distance: of a pair, as a share of the diagonal.
    """
    count, distance = len(thresholds_T), max_distance * math.hypot(*truth_HW.shape)
    assert count <= 64
    # Levels: how many thresholds a pixel reaches; none where it does not count.
    level_HW = np.searchsorted(thresholds_T, thin(probability_HW).ravel(), side="right").reshape(truth_HW.shape)
    level_HW = np.where(truth_HW == IGNORED_CLASS, 0, level_HW)
    true_HW = truth_HW == 1
    greedy_T, near_answer_T = _pairs_and_near(level_HW, true_HW, count, distance)
    near_true_T = _reaching(level_HW[_near(true_HW, distance)], count)
    pairs_T = (greedy_T + np.minimum(near_answer_T, near_true_T)) / 2
    return np.stack([pairs_T, _reaching(level_HW.ravel(), count), np.full(count, float(true_HW.sum()))])


def _reaching(levels: np.ndarray, count: int) -> np.ndarray:
    """How many of some pixels reach each threshold [T]."""
    return np.bincount(levels, minlength=count + 1)[::-1].cumsum()[-2::-1].astype(np.float64)


def _pairs_and_near(
    level_HW: np.ndarray, true_HW: np.ndarray, count: int, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """At each threshold: greedy pairs [T], nearest first; and true pixels that have an answered one in reach [T].

    Bit t of a pixel says that it is answered at threshold t, so that one pass serves all thresholds.
    """
    reached = np.array([(1 << t) - 1 for t in range(count + 1)], np.uint64)
    margin = int(distance)
    answered = np.pad(reached[level_HW], margin).ravel()
    free_answered = answered.copy()
    place_P = np.flatnonzero(np.pad(true_HW, margin))
    free_P = np.full(len(place_P), reached[-1])
    near_P = np.zeros_like(free_P)
    for dy, dx in _offsets(distance):
        there_P = place_P + dy * (level_HW.shape[1] + 2 * margin) + dx
        near_P |= answered[there_P]
        # At one offset every pixel has one candidate: the pairs cannot collide.
        candidates_P = free_answered[there_P]
        pairs_P = candidates_P & free_P
        free_P ^= pairs_P
        free_answered[there_P] = candidates_P ^ pairs_P
    return len(place_P) - _bit_counts(free_P, count), _bit_counts(near_P, count)


def _near(true_HW: np.ndarray, distance: float) -> np.ndarray:
    """Where a true pixel is in reach."""
    side = 2 * int(distance) + 1
    disc = np.zeros((side, side), np.uint8)
    for dy, dx in _offsets(distance):
        disc[dy + side // 2, dx + side // 2] = 1
    return cv2.dilate(true_HW.astype(np.uint8), disc, borderValue=0) > 0


@lru_cache(maxsize=8)
def _offsets(distance: float) -> tuple[tuple[int, int], ...]:
    """Every (dy, dx) within the distance, nearest first."""
    reach = range(-int(distance), int(distance) + 1)
    near = [(dy * dy + dx * dx, dy, dx) for dy in reach for dx in reach if dy * dy + dx * dx <= distance * distance]
    return tuple((dy, dx) for _, dy, dx in sorted(near))


def _bit_counts(bits_P: np.ndarray, count: int) -> np.ndarray:
    """In how many pixels each of the lowest `count` bits is set [T]."""
    octets = np.ascontiguousarray(bits_P).astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)[:count]
