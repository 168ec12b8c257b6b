"""Does a depth map order places rightly? Without units or scale: of two places, which is nearer.

Two sets of pairs, both judged against a stereo pair's disparity (larger is nearer):

- random: any two pixels that have a disparity;
- row: at most 5 rows apart, one disparity more than 1.25 times the other. "Lower in the picture is nearer" knows
  nothing of these, so that they tell whether things are seen, and not only the floor.

Axes: H height, W width, P pairs, 2 places (row, column).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = [
    "BASELINES",
    "MIN_RATIO",
    "ROWS_APART",
    "Pairs",
    "centre_bias",
    "draw_pairs",
    "order_share",
    "vertical_gradient",
]

ROWS_APART = 5
MIN_RATIO = 1.25
_CHUNK = 1_000_000


@dataclass(frozen=True)
class Pairs:
    """Pairs of places: rows and columns of the first and the second, int [P, 2] each."""

    first_P2: np.ndarray
    second_P2: np.ndarray

    def __len__(self) -> int:
        return len(self.first_P2)


def draw_pairs(disparity_HW: np.ndarray, count: int, *, same_row: bool, seed: int = 0) -> Pairs:
    """`count` pairs of different disparity, drawn evenly from all that belong to the set.

    Args:
        disparity_HW: finite and above 0 where known.
        same_row: the second set, else the first.

    Raises:
        ValueError: no two places belong to the set.
    """
    rng = np.random.default_rng(seed)
    places_N2 = np.argwhere(np.isfinite(disparity_HW) & (disparity_HW > 0))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    found = drawn = 0
    while found < count:
        if len(places_N2) < 2 or (drawn >= 50 * _CHUNK and not found):
            raise ValueError("expected places of different disparity, got none")
        first, second = places_N2[rng.integers(0, len(places_N2), (2, _CHUNK))]
        near, far = _sorted(disparity_HW[tuple(first.T)], disparity_HW[tuple(second.T)])
        belongs = near > far
        if same_row:
            belongs = (np.abs(first[:, 0] - second[:, 0]) <= ROWS_APART) & (near > MIN_RATIO * far)
        kept.append((first[belongs], second[belongs]))
        found, drawn = found + int(belongs.sum()), drawn + _CHUNK
    first, second = (np.concatenate(parts)[:count] for parts in zip(*kept, strict=True))
    return Pairs(first, second)


def _sorted(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(one, other), np.minimum(one, other)


def order_share(depth_HW: np.ndarray, disparity_HW: np.ndarray, pairs: Pairs) -> float:
    """Share of pairs whose nearer place has the smaller depth; equal depths count half, as a guess would.

    Args:
        depth_HW: anything that grows with distance, at the size of the disparity.
    """
    first, second = tuple(pairs.first_P2.T), tuple(pairs.second_P2.T)
    nearer = np.sign(disparity_HW[first] - disparity_HW[second])
    said = np.sign(depth_HW[second].astype(np.float64) - depth_HW[first].astype(np.float64))
    return float(((nearer == said) + 0.5 * (said == 0)).mean())


def vertical_gradient(size_hw: tuple[int, int]) -> np.ndarray:
    """Lower in the picture is nearer."""
    return np.broadcast_to(-np.arange(size_hw[0], dtype=np.float64)[:, None], size_hw)


def centre_bias(size_hw: tuple[int, int]) -> np.ndarray:
    """The middle of the picture is nearest."""
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in size_hw)
    return np.hypot(rows[:, None], columns[None])


BASELINES: dict[str, Callable[[tuple[int, int]], np.ndarray]] = {
    "lower is nearer": vertical_gradient,
    "the middle is nearer": centre_bias,
}
