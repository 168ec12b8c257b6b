"""What a planner chose from, for pictures: many configurations by cost and worth, and the Pareto set among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .frontier import prices_of
from .limits import STEPS, Axis, Limit
from .plan import Plan, ScoredBy
from .search import Search
from .steps import plan_of_step

MAX_CONFIGURATIONS = 6000  # more dots than this are a blot


@dataclass(frozen=True)
class Landscape:
    """Costs are in the unit of `axis` (FLOPs, ms); worth is the quality, 1 for full, or FLOPs if `scored_by` says so.

    Axes: N configurations, P points of the Pareto set, cheapest first.

    Args:
        limit: the budget's, on this axis; None if it has none there.
        count: how many configurations there are; of more than `MAX_CONFIGURATIONS` a random sample is shown. Of fewer
            only those that keep the floors count.
    """

    axis: Axis
    scored_by: ScoredBy
    limit: float | None
    costs_N: np.ndarray
    worths_N: np.ndarray
    count: int
    front_costs_P: np.ndarray
    front_worths_P: np.ndarray
    front: list[Plan]


def landscape_of(search: Search, limits: Sequence[Limit], *, seed: int = 0) -> Landscape:
    """All that a search chooses from, along its first cost: time where that was measured, else FLOPs."""
    axis = search.cost_axis
    steps = search.steps(axis, [])
    scored_by = steps[-1][1].scored_by
    steps = [step for step in steps if step[1].scored_by == scored_by]
    costs_N, worths_N, count = _configurations(search, axis, scored_by, np.random.default_rng(seed))
    return Landscape(
        axis,
        scored_by,
        min((limit.most / STEPS[axis] for limit in limits if limit.axis == axis), default=None),
        costs_N / STEPS[axis],
        worths_N,
        count,
        np.array([cost for cost, _, _ in steps]) / STEPS[axis],
        np.array([frontier.worths_P[point] for _, frontier, point in steps]),
        [plan_of_step(search, axis, step) for step in steps],
    )


def _configurations(
    search: Search, axis: Axis, scored_by: ScoredBy, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    spaces = search.spaces(scored_by)
    counts = [len(s.encoders) * int(np.prod([len(heads) for heads in s.heads.values()])) for s in spaces]
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for space, count in zip(spaces, counts):
        wanted = min(count, max(1, MAX_CONFIGURATIONS * count // sum(counts)))
        # Numbers that name a configuration each: the encoder is the last digit, each decoder one before.
        code = np.sort(rng.choice(count, wanted, replace=False)) if count < 1 << 24 else rng.integers(0, count, wanted)
        code, encoder = np.divmod(code, len(space.encoders))
        worths_E, worths_TEW = search.score(scored_by, space)
        costs = prices_of(axis, [e.cost for e in space.encoders])[encoder] + prices_of(axis, [space.call])[0]
        worths = worths_E[encoder]
        for task, heads in space.heads.items():
            code, head = np.divmod(code, len(heads))
            costs = costs + prices_of(axis, list(heads.values()))[head]
            worths = worths + worths_TEW[task][encoder, head]
        found.append((costs[np.isfinite(worths)], worths[np.isfinite(worths)]))
    costs_N, worths_N = (np.concatenate(arrays) for arrays in zip(*found))
    return costs_N, worths_N, sum(counts) if sum(counts) > MAX_CONFIGURATIONS else len(costs_N)
