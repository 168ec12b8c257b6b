"""Edges, scored as BSDS does: thin the answer, match it one to one with the truth within a small distance.

1. The answer is thinned: a pixel stays where it is at least as high (to 1 %) as both neighbours across the ridge
   (the non-maximum suppression of Structured Edges, Dollar & Zitnick 2013). A flat map stays as it is.
2. At each threshold, answered pixels are paired with true ones at most 0.0075 x the image's diagonal away (2.4 pixels
   at 224 x 224), each with at most one. Precision = pairs / answered pixels, recall = pairs / true pixels.

The pairing is greedy, nearest first, where the benchmark solves the assignment exactly: it finds as many pairs or
fewer, so the F-measure is a little on the low side (by 0.3 to 1 % of the pairs on rendered rooms, against a maximum
matching; held in the tests). For an all-positive answer it is exact.

Axes: H height, W width, T thresholds, P pixels.
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

_SLACK = 1.01


def thin(probability_HW: np.ndarray) -> np.ndarray:
    """The map with everything but its ridges set to 0, float32."""
    probability_HW = np.ascontiguousarray(probability_HW, np.float32)
    smooth = cv2.GaussianBlur(probability_HW, (0, 0), 1.5)
    across_x = cv2.Sobel(smooth, cv2.CV_32F, 2, 0)
    across_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 2)
    mixed = cv2.Sobel(smooth, cv2.CV_32F, 1, 1)
    # Direction of the most negative curvature: across the ridge.
    angle = 0.5 * np.arctan2(2 * mixed, across_x - across_y) + np.float32(math.pi / 2)
    step_x, step_y = np.cos(angle), np.sin(angle)
    x, y = _pixel_places(*probability_HW.shape)
    highest = np.maximum(
        cv2.remap(probability_HW, x + step_x, y + step_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        cv2.remap(probability_HW, x - step_x, y - step_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
    )
    return np.where(probability_HW * np.float32(_SLACK) >= highest, probability_HW, np.float32(0))


@lru_cache(maxsize=4)
def _pixel_places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def match_counts(probability_HW: np.ndarray, truth_HW: np.ndarray, thresholds_T: np.ndarray) -> np.ndarray:
    """Pairs, answered pixels and true pixels at each threshold, int64 [3, T].

    Args:
        probability_HW: of an edge, not thinned.
        truth_HW: 1 on edges, 0 elsewhere, 255 where nobody knows (left out).
        thresholds_T: ascending, at most 64.
    """
    assert len(thresholds_T) <= 64
    valid = truth_HW != IGNORED_CLASS
    level = np.searchsorted(thresholds_T, thin(probability_HW).ravel(), side="right").reshape(truth_HW.shape)
    # Bit t of a pixel: it is answered at threshold t (or true). One pass then matches at all thresholds together.
    reached = np.array([(1 << t) - 1 for t in range(len(thresholds_T) + 1)], np.uint64)
    answered_HW = np.where(valid, reached[level], np.uint64(0))
    true_HW = np.where(truth_HW == 1, reached[-1], np.uint64(0))
    matched_HW = _match(answered_HW, true_HW, MAX_DISTANCE * math.hypot(*truth_HW.shape))
    true = int((truth_HW == 1).sum())
    per_level = np.bincount(level[valid], minlength=len(thresholds_T) + 1)
    answered = per_level[::-1].cumsum()[-2::-1]
    return np.stack([_bit_counts(matched_HW, len(thresholds_T)), answered, np.full(len(thresholds_T), true)])


def _match(answered_HW: np.ndarray, true_HW: np.ndarray, distance: float) -> np.ndarray:
    """The bits of `answered_HW` that find a partner; nearest partners are given away first."""
    height, width = answered_HW.shape
    free_answered, free_true = answered_HW.copy(), true_HW.copy()
    for dy, dx in _offsets(distance):
        here = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
        there = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
        # At one offset every pixel has one candidate: the pairs cannot collide.
        pairs = free_answered[here] & free_true[there]
        free_answered[here] ^= pairs
        free_true[there] ^= pairs
    return answered_HW ^ free_answered


@lru_cache(maxsize=8)
def _offsets(distance: float) -> tuple[tuple[int, int], ...]:
    """Every (dy, dx) within the distance, nearest first."""
    reach = range(-int(distance), int(distance) + 1)
    near = [(dy * dy + dx * dx, dy, dx) for dy in reach for dx in reach if dy * dy + dx * dx <= distance * distance]
    return tuple((dy, dx) for _, dy, dx in sorted(near))


def _bit_counts(bits_HW: np.ndarray, count: int) -> np.ndarray:
    """In how many pixels each of the lowest `count` bits is set."""
    bits_P = np.ascontiguousarray(bits_HW[bits_HW != 0]).astype("<u8")
    planes = np.unpackbits(bits_P.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    return planes.sum(axis=0, dtype=np.int64)[:count]
