"""Limits in whole numbers: FLOPs, nanoseconds, bytes, nanojoules.

Whole numbers add up to the same sum in any order, so what fits a limit does not depend on how the planner got there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import BudgetError
from .budget import Budget
from .costs import CostModel, PartCost
from .plan import Plan

Axis = Literal["flops", "latency_ms", "memory_mb", "energy_mj"]
AXES: tuple[Axis, ...] = ("flops", "latency_ms", "memory_mb", "energy_mj")
STEPS: dict[Axis, float] = {"flops": 1, "latency_ms": 1e6, "memory_mb": 1e6, "energy_mj": 1e6}  # per unit
SUFFIX: dict[Axis, str] = {"flops": "FLOPs", "latency_ms": "ms", "memory_mb": "MB", "energy_mj": "mJ"}
NO_LIMIT = 1 << 62
_ROUNDING = 1e-9  # a limit of 12.346 ms admits a plan of 12.346 ms, whatever binary fractions say


@dataclass(frozen=True)
class Limit:
    """One limit of a budget.

    Args:
        most: in steps of the axis.
        text: as it was asked for, "20ms".
        per_unit: steps per unit of the text, to name another limit in the same unit.
        suffix: of that unit, "ms"; empty for a share.
    """

    axis: Axis
    most: int
    text: str
    per_unit: float
    suffix: str

    @property
    def is_share(self) -> bool:
        return not self.suffix

    def text_for(self, steps: int) -> str:
        """The least round limit in this limit's unit that admits `steps`: "12.35ms". Of a share of 1 or more: FLOPs."""
        if self.suffix == "FLOPs" or (self.is_share and steps > 0.9999 * self.per_unit):
            return f"{steps}FLOPs"
        digits = 3 - math.floor(math.log10(max(steps, 1) / self.per_unit))
        parts = steps / self.per_unit * 10**digits
        number = math.ceil(parts - _ROUNDING) / 10**digits
        if math.floor(number * self.per_unit + _ROUNDING * STEPS[self.axis]) < steps:
            number = math.ceil(parts) / 10**digits  # of large numbers the rounding is worth whole steps
        return f"{round(number, max(digits, 0)):.12g}{self.suffix}"


def limits_of(budget: Budget, *, full_flops: int, headroom: float = 1.0, slowdown: float = 1.0) -> list[Limit]:
    """The limits of a budget, in the order share, FLOPs, time, memory, energy.

    Args:
        full_flops: what a share is a share of.
        headroom: p95 over median of a call: a limit in time is held against the p95.
        slowdown: how much slower the device is at present than its profile; tightens a limit in time.
    """
    found: list[Limit] = []
    if budget.share is not None:
        flops = budget.share * full_flops
        flops = math.floor(flops + max(1e-6, 1e-13 * flops))  # 26.999999999999996 are 27
        found.append(Limit("flops", flops, f"{budget.share:g}", full_flops, ""))
    if budget.flops is not None:
        found.append(_limit("flops", budget.flops, 1.0))
    if budget.latency_ms is not None:
        found.append(_limit("latency_ms", budget.latency_ms, 1 / (slowdown * headroom)))
    if budget.memory_mb is not None:
        found.append(_limit("memory_mb", budget.memory_mb, 1.0))
    if budget.energy_mj is not None:
        found.append(_limit("energy_mj", budget.energy_mj, 1.0))
    return found


def _limit(axis: Axis, amount: float, factor: float) -> Limit:
    steps = min(math.floor(amount * STEPS[axis] * factor + _ROUNDING * STEPS[axis]), NO_LIMIT)
    return Limit(axis, int(steps), f"{amount:.12g}{SUFFIX[axis]}", STEPS[axis] * factor, SUFFIX[axis])


def limit_on(axis: Axis, steps: int, *, headroom: float = 1.0) -> Limit:
    """The least round limit on an axis that admits `steps`."""
    limit = _limit(axis, 0.0, 1 / headroom if axis == "latency_ms" else 1.0)
    return replace(limit, most=steps, text=limit.text_for(steps))


def spent(plan: Plan, axis: Axis) -> int:
    """What a plan costs on an axis, in steps: what limits are held against."""
    costs = [cost for _, cost in plan.parts]
    if axis == "memory_mb":
        weights, peaks = steps_of("weights_mb", STEPS[axis], costs), steps_of("activations_mb", STEPS[axis], costs)
        return sum(weights) + max(peaks, default=0)
    return sum(steps_of(axis, STEPS[axis], costs))


def steps_of(name: str, per_unit: float, costs: Iterable[PartCost]) -> list[int]:
    """A field of each part's cost in whole steps. What is unknown counts as nothing: ask only for what is known,
    except for activations, which are often not."""
    return [round((getattr(cost, name) or 0) * per_unit) for cost in costs]


def require_known(limits: list[Limit], known: set[Axis], costs: CostModel) -> None:
    """Refuse a limit on what nobody measured.

    Raises:
        BudgetError: how to get there: calibrate, or limit something else.
    """
    for limit in limits:
        if limit.axis not in known:
            raise _unknown(limit.axis, limit.text, costs)


def _unknown(axis: Axis, text: str, costs: CostModel) -> BudgetError:
    if costs.name == "flops":
        return BudgetError(
            f"the budget {text} needs a profile of this device",
            hint='measure one with "slimpath calibrate BUNDLE", or use FLOPs or a share: "1.5GFLOPs", "0.5"',
        )
    what = {"energy_mj": "energy", "latency_ms": "latency"}.get(axis, axis)
    return BudgetError(
        f"the budget {text} cannot be kept: the profile of this device does not know the {what} of these tasks",
        hint="limit the time or the FLOPs instead" if axis == "energy_mj" else 'run "slimpath calibrate BUNDLE" again',
    )
