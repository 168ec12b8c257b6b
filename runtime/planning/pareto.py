"""Points that nothing beats: cheaper or equal in every cost, and worth no less.

Axes: N points, C cost columns (whole numbers), E groups (encoders), W options (decoder widths).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Points of one group beyond which a list is thinned to as many cells of a grid over its costs, keeping the most worth
# of each. With 4 decoder widths that is never reached by up to 7 tasks; beyond, and only if as many points are left
# that nothing beats, plans are within one cell of the optimum: 1/16384 of the range of one cost, 1/128 of each of two.
MAX_POINTS = 16384
# Points of all groups that are cheaper to carry on with than to sort out, with one cost and with more: sorting takes
# 0.1 ms a group with one, and 1 ms or more with several (6 tasks, 16 encoders, CPU time of all of it: 3 and 9 ms;
# with the same bound for both, 65 ms for two costs or 5 for one).
ENOUGH, ENOUGH_COMBINED = 1 << 14, 1 << 16
_GRID = {1: 4096, 2: 64, 3: 16}  # cells per cost, to throw out most of many points before they are sorted
FEW = 512  # points that are sorted out as fast without the grid
_BLOCK = 256


@dataclass(frozen=True)
class Points:
    """Choices so far: int64 costs [N, C], float64 worths [N], group [N], and the options chosen, as one number [N]."""

    costs_NC: np.ndarray
    worths_N: np.ndarray
    group_N: np.ndarray
    code_N: np.ndarray

    def __len__(self) -> int:
        return len(self.worths_N)

    def __getitem__(self, which: np.ndarray) -> Points:
        return Points(self.costs_NC[which], self.worths_N[which], self.group_N[which], self.code_N[which])


def start(costs_EC: np.ndarray, worths_E: np.ndarray) -> Points:
    """One point per group, nothing chosen."""
    groups = np.arange(len(worths_E))
    return Points(costs_EC, worths_E, groups, np.zeros_like(groups))


def choose(points: Points, added_WC: np.ndarray, worths_EW: np.ndarray, peaks: Sequence[int] = ()) -> Points:
    """Every point with every one of W options; what is beaten within its group may be dropped.

    Args:
        added_WC: costs of the options.
        worths_EW: their worth in each group; -inf: not to be chosen.
        peaks: columns in which parts share one peak (the largest counts) instead of adding up.
    """
    options = len(added_WC)
    if len(points) * options > (ENOUGH if added_WC.shape[1] == 1 else ENOUGH_COMBINED):
        points = prune(points)
    sums = points.costs_NC[:, None] + added_WC
    for column in peaks:
        sums[..., column] = np.maximum(points.costs_NC[:, None, column], added_WC[:, column])
    worths = (points.worths_N[:, None] + worths_EW[points.group_N]).ravel()
    codes = (points.code_N[:, None] * options + np.arange(options)).ravel()
    made = Points(sums.reshape(-1, sums.shape[-1]), worths, points.group_N.repeat(options), codes)
    return made if np.isfinite(worths_EW).all() else made[np.flatnonzero(worths > -np.inf)]


def prune(points: Points) -> Points:
    """Without what is beaten within its group."""
    kept = []
    for group in np.unique(points.group_N):
        inside = np.flatnonzero(points.group_N == group)
        inside = inside[pareto(points.costs_NC[inside], points.worths_N[inside])]
        kept.append(inside[_thin(points.costs_NC[inside], points.worths_N[inside])])
    return points[np.concatenate(kept)] if kept else points


def pareto(costs_NC: np.ndarray, worths_N: np.ndarray, tie: float = 0.0) -> np.ndarray:
    """Indices of the points worth more, by over `tie`, than every kept one that costs no more; cheapest first."""
    varying = [c for c in range(costs_NC.shape[1]) if len(costs_NC) and np.ptp(costs_NC[:, c])] or [0]
    costs = costs_NC[:, varying]
    left = _not_clearly_beaten(costs, worths_N)
    costs, worths = costs[left], worths_N[left]
    # By cost, and among equals the most worth first: whatever beats a point comes before it.
    order = np.lexsort((-worths, *costs.T[::-1]))
    find = {1: _beyond_one, 2: _beyond_two}.get(len(varying), _beyond_many)
    return left[order[find(costs[order], worths[order], tie)]]


def _cells(costs_NC: np.ndarray, levels: int) -> np.ndarray:
    """The cell of each point, 0 to `levels` per cost; a higher cell means a higher cost."""
    low = costs_NC.min(axis=0)
    return ((costs_NC - low) * (levels / np.maximum(costs_NC.max(axis=0) - low, 1))).astype(np.int64)


def _not_clearly_beaten(costs_NC: np.ndarray, worths_N: np.ndarray) -> np.ndarray:
    """Indices of the points for which no cell that is lower in every cost holds anything worth as much."""
    count, columns = costs_NC.shape
    levels = _GRID.get(columns, 6)
    if count < FEW:
        return np.arange(count)
    cells = _cells(costs_NC, levels)
    best = np.full((levels + 2,) * columns, -np.inf)  # a row of nothing before the first cell
    np.maximum.at(best, tuple(cells.T + 1), worths_N)
    for axis in range(columns):
        best = np.maximum.accumulate(best, axis=axis)
    return np.flatnonzero(best[tuple(cells.T)] < worths_N)


def _beyond_one(costs_NC: np.ndarray, worths_N: np.ndarray, tie: float) -> np.ndarray:
    rises = np.flatnonzero(np.diff(np.maximum.accumulate(worths_N), prepend=-np.inf) > 0)
    kept, best = [], -np.inf
    for number, worth in zip(rises.tolist(), worths_N[rises].tolist()):
        if worth > best + tie:
            kept.append(number)
            best = worth
    return np.array(kept, np.int64)


def _beyond_two(costs_NC: np.ndarray, worths_N: np.ndarray, tie: float) -> np.ndarray:
    """With the first cost in order, the second and the worth make a staircase: both rise from step to step."""
    kept, steps, heights = [], [], []
    for number, (cost, worth) in enumerate(zip(costs_NC[:, 1].tolist(), worths_N.tolist())):
        at = bisect_right(steps, cost)
        if at and heights[at - 1] >= worth - tie:
            continue
        kept.append(number)
        first = bisect_left(steps, cost)
        end = bisect_right(heights, worth, lo=first)  # steps that cost as much or more and are worth no more
        steps[first:end], heights[first:end] = [cost], [worth]
    return np.array(kept, np.int64)


def _beyond_many(costs_NC: np.ndarray, worths_N: np.ndarray, tie: float) -> np.ndarray:
    """Compare with all that was kept, a block at a time."""
    points = np.column_stack((costs_NC[:, 1:].astype(np.float64), -worths_N))
    slack = np.zeros(points.shape[1])
    slack[-1] = tie
    kept = np.zeros(0, np.int64)
    for begin in range(0, len(points), _BLOCK):
        block = points[begin : begin + _BLOCK] + slack
        beaten: np.ndarray = np.all(points[kept][:, None] <= block, axis=-1).any(axis=0)
        for row in np.flatnonzero(~beaten).tolist():
            if not beaten[row]:
                later: np.ndarray = np.all(points[begin + row] <= block, axis=-1)
                later[: row + 1] = False
                beaten |= later
        kept = np.concatenate((kept, begin + np.flatnonzero(~beaten)))
    return kept


def _thin(costs_NC: np.ndarray, worths_N: np.ndarray) -> np.ndarray:
    """Indices of the points to go on with, in order: all of them, unless there are too many."""
    count, columns = costs_NC.shape
    if count <= MAX_POINTS:
        return np.arange(count)
    levels = int(MAX_POINTS ** (1 / columns))
    cell = np.asarray(np.ravel_multi_index(tuple(_cells(costs_NC, levels).T), (levels + 1,) * columns))
    by_worth = np.lexsort((-worths_N, cell))
    ends = np.flatnonzero(np.diff(cell[by_worth], prepend=-1))
    cheapest = [int(np.argmin(costs_N)) for costs_N in costs_NC.T]
    return np.union1d(by_worth[ends], cheapest)
