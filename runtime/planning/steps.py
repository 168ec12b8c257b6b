"""Along the Pareto set: the plans that growing budgets buy, and those next to a plan."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from .frontier import Frontier
from .limits import Axis, Limit, limit_on, spent
from .plan import Plan
from .search import Search

_Step = TypeVar("_Step")


@dataclass(frozen=True)
class Neighbours:
    """The plans that a little less and a little more budget would buy; None where there is nothing."""

    cheaper: Plan | None
    dearer: Plan | None


def curve_of(search: Search, points: int) -> list[Plan]:
    """Up to `points` plans, at least both ends, cheapest first; of the measured ones if there are any."""
    axis = search.cost_axis
    steps = search.steps(axis, [])
    steps = [step for step in steps if step[1].scored_by == steps[-1][1].scored_by]
    return [plan_of_step(search, axis, step) for step in _spread([cost for cost, _, _ in steps], steps, max(points, 2))]


def neighbours_of(search: Search, plan: Plan, limits: Sequence[Limit]) -> Neighbours:
    """What a little less and a little more of the first limit would buy, the other limits being held."""
    axis = limits[0].axis if limits else search.cost_axis
    here = spent(plan, axis)
    steps = search.steps(axis, limits if plan.budget_met else [])
    below = [step for step in steps if step[0] < here]
    above = [step for step in steps if step[0] > here]
    return Neighbours(
        plan_of_step(search, axis, below[-1]) if below else None,
        plan_of_step(search, axis, above[0]) if above else None,
    )


def plan_of_step(search: Search, axis: Axis, step: tuple[int, Frontier, int]) -> Plan:
    """The plan of a step, its budget being the least round one that buys it."""
    cost, frontier, point = step
    return search.plan_at((frontier, point), limit_on(axis, cost, headroom=search.headroom).text)


def _spread(costs: list[int], steps: list[_Step], most: int) -> list[_Step]:
    """At most `most` steps, evenly spread over the cost, both ends included."""
    if len(steps) <= most:
        return steps
    span = costs[-1] - costs[0]
    chosen = {bisect_right(costs, costs[0] + span * number // (most - 1)) - 1 for number in range(most)}
    return [steps[index] for index in sorted(chosen)]
