"""What to do where nothing keeps the whole budget: the nearest plan, or an error that names what would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import InfeasibleBudgetError
from .budget import Budget
from .limits import NO_LIMIT, Axis, Limit, spent
from .plan import Plan
from .search import Search


def nearest_plan(search: Search, limits: Sequence[Limit], budget: Budget, *, strict: bool) -> Plan:
    """The plan that exceeds the limits by the least factor and keeps all floors; without limits, the full one.

    Floors that nothing keeps under the budget's pins are given up. What is not kept stands in `Plan.unmet`.

    Raises:
        InfeasibleBudgetError: strict; it says what is not kept, and names the smallest budget that could be.
    """
    found = search.nearest(limits or [Limit("flops", NO_LIMIT, "", 1.0, "")])
    if found is None:
        return _without_floors(search, limits, budget, strict)
    frontier, point = found
    costs = frontier.costs_at(point)
    unmet = [limit for limit in limits if costs[limit.axis] > limit.most]
    if strict:
        raise _too_small(search, costs, limits, unmet, budget)
    return search.plan_at(found, budget.text, tuple(limit.text for limit in unmet))


def _without_floors(search: Search, limits: Sequence[Limit], budget: Budget, strict: bool) -> Plan:
    free = search.without_floors()
    if budget.cheapest:
        found = free.cheapest()
    else:
        found = (free.best(limits) or free.nearest(limits)) if limits else None
    configuration = free.full() if found is None else found[0].at(found[1])
    floors = search.broken_floors(*configuration)
    if strict:
        reached = ", ".join(f"{task} {quality:.2f}" for task, quality in search.best_qualities().items())
        pinned = f" with {', '.join(_pins(budget))}" if _pins(budget) else ""
        raise InfeasibleBudgetError(
            f"no configuration{pinned} keeps {', '.join(floors)} at once",
            hint=f"the most that is reached, of the full accuracy: {reached}; lower the floors",
        )
    plan = free.make_plan(*configuration, budget.text)
    unmet = [limit.text for limit in limits if spent(plan, limit.axis) > limit.most] + floors
    return replace(plan, budget_met=False, unmet=tuple(unmet), floors=dict(search.choice.floors))


def _too_small(
    search: Search, costs: Mapping[Axis, int], limits: Sequence[Limit], unmet: Sequence[Limit], budget: Budget
) -> InfeasibleBudgetError:
    texts = [limit.text_for(costs[limit.axis]) if limit in unmet else limit.text for limit in limits]
    if len(limits) > 1:  # a share that had to grow to 1 is no limit any more
        texts = [text for limit, text in zip(limits, texts) if not (limit.is_share and text.endswith("FLOPs"))]
    feasible = ",".join([*texts, *_pins(budget)])
    floors = "".join(f", {task}>={floor:g}" for task, floor in search.choice.floors.items())
    return InfeasibleBudgetError(
        f"the budget {budget.text} is too small for {', '.join(search.choice.preferences)}{floors}: "
        f"{' and '.join(limit.text for limit in unmet)} cannot be kept"
        + ("" if len(limits) == 1 else " with the rest"),
        hint=f'the smallest feasible budget is "{feasible}"; ask for fewer tasks, or raise the budget',
    )


def _pins(budget: Budget) -> list[str]:
    pins = {
        "width": budget.width,
        "decoder_width": budget.decoder_width,
        "top_k": budget.top_k,
        "precision": budget.precision,
    }
    return [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in pins.items() if value
    ]
