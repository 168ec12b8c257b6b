"""The plans that may answer a request: the one it asked for, and narrower ones below it.

A request's budget is a ceiling: narrower plans keep its pins (width=0.5 stays 0.5), its floors (depth>=0.9) and its
limits, and cost less. They lie on the planner's Pareto set, so each is the best that there is for its cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...runtime.planning.budget import Budget, parse_budget
from ...runtime.planning.plan import Plan
from ...runtime.request import Request
from ...runtime.running.controller import plan_key

if TYPE_CHECKING:
    from ...runtime.engine import Engine

# A rung costs at most this share of the one above: finer steps only scatter the encoder calls. The last may be nearer:
# it says how much can be answered at most.
LEAST_STEP = 0.92
CURVE_POINTS = 24
MAX_LADDERS = 512


@dataclass(frozen=True, eq=False)
class Rung:
    """A plan.

    Args:
        key: what makes two plans the same work.
        group: rungs of one group can share an encoder call.
    """

    plan: Plan
    key: Hashable
    group: Hashable


@dataclass(frozen=True, eq=False)
class Ladder:
    """At least one rung, the widest first. Equal requests share one ladder."""

    rungs: tuple[Rung, ...]

    @property
    def top(self) -> Rung:
        return self.rungs[0]

    @property
    def bottom(self) -> Rung:
        return self.rungs[-1]


def rung_of(plan: Plan) -> Rung:
    return Rung(plan, plan_key(plan), (plan.size_hw, plan.encoder_width, plan.precision))


def make_ladder(engine: Engine, request: Request, *, narrower: bool) -> Ladder:
    """Plan a request.

    Args:
        narrower: also look for plans below the one asked for.

    Raises:
        SlimpathError: the request cannot be planned; the engine's own error.
    """
    top = engine.plan(request.tasks, request.budget, size=request.size, strict=request.strict)
    if not narrower or isinstance(request.budget, Plan):
        return Ladder((rung_of(top),))
    asked = parse_budget(request.budget)
    pins = Budget(
        width=asked.width,
        decoder_width=asked.decoder_width,
        top_k=asked.top_k,
        precision=top.precision,
        text=asked.text,
    )
    below = engine.curve(request.tasks, pins, size=top.size_hw, points=CURVE_POINTS)
    cheaper = [plan for plan in below if _cost(plan) < _cost(top) and plan.flops < top.flops and _keeps(plan, asked)]
    rungs = [top]
    for plan in sorted(cheaper, key=_cost, reverse=True):
        if _cost(plan) <= LEAST_STEP * _cost(rungs[-1]) or plan is cheaper[0]:
            rungs.append(replace(plan, budget=top.budget))
    return Ladder(tuple(rung_of(plan) for plan in rungs))


def _cost(plan: Plan) -> float:
    return plan.flops if plan.latency_ms is None else plan.latency_ms


def _keeps(plan: Plan, asked: Budget) -> bool:
    """Limits other than compute and time may be broken by a cheaper plan."""
    fits_memory = asked.memory_mb is None or plan.memory_mb <= asked.memory_mb
    return fits_memory and (asked.energy_mj is None or (plan.energy_mj or 0.0) <= asked.energy_mj)


class Ladders:
    """Ladders by request, remembered while nothing about their first plan changes. Not for several threads at once.

    A plan depends on the pace of the device where the budget is in ms, so the plan is asked for each time (it is a
    look-up), and the ladder below it is kept by that plan.
    """

    def __init__(self, engine: Engine, *, narrower: bool) -> None:
        self._engine = engine
        self._narrower = narrower
        self._known: OrderedDict[Hashable, tuple[Plan, Ladder]] = OrderedDict()

    def known(self, request: Request) -> Ladder | None:
        """The ladder of a request that was seen before, in microseconds; None where it has to be made.

        Raises:
            SlimpathError: the request cannot be planned.
        """
        key = _key(request)
        found = None if key is None else self._known.get(key)
        if found is None:
            return None
        top = self._engine.plan(request.tasks, request.budget, size=request.size, strict=request.strict)
        if top is not found[0] and top != found[0]:
            return None
        self._known.move_to_end(key)
        return found[1]

    def make(self, request: Request) -> Ladder:
        """Plan a request that is not known; milliseconds.

        Raises:
            SlimpathError: the request cannot be planned.
        """
        return make_ladder(self._engine, request, narrower=self._narrower)

    def keep(self, request: Request, ladder: Ladder) -> None:
        """Remember what `make` made."""
        key = _key(request)
        if key is not None:
            self._known[key] = ladder.top.plan, ladder
            if len(self._known) > MAX_LADDERS:
                self._known.popitem(last=False)


def _key(request: Request) -> Hashable:
    """None for what cannot be remembered: a generator of tasks is used up by reading it."""
    tasks = request.tasks
    if isinstance(tasks, Mapping):
        names: Hashable = ("preferences", *tasks.items())
    elif tasks is None or isinstance(tasks, str):
        names = tasks
    elif isinstance(tasks, (list, tuple)) and isinstance(tasks, Iterable):
        names = ("names", *tasks)
    else:
        return None
    key = (names, type(request.budget), request.budget, request.size, request.strict)
    try:
        hash(key)
    except TypeError:  # a Plan as the budget holds dicts
        return None
    return key
