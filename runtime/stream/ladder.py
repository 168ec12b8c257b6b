"""The plans that a stream steps between, and what each takes: from the profile, or timed while the graphs load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from ..errors import TaskError
from .pilot import Pilot, time_plans

if TYPE_CHECKING:
    from ..engine import Engine
    from ..planning.plan import Plan

RUNGS = 12  # finer steps than the latencies can be told apart
TIMING_S = 2.0
HEADROOM = 1.1  # p95 / median of a device that nothing is known of
_PICTURE_HW = (480, 640)


def ladder(engine: Engine, tasks: str | None, budget: str | None, *, fixed: bool = False) -> list[Plan]:
    """Plans along the Pareto set, cheapest first, none dearer than the budget allows.

    Args:
        fixed: only the one that the budget buys.

    Raises:
        TaskError, BudgetError: the request cannot be read, or names what the bundle does not have.
    """
    dearest = engine.plan(tasks, budget)
    if not dearest.decoder_widths:
        raise TaskError("no task was requested")
    if fixed:
        return [dearest]
    return [*(plan for plan in engine.curve(tasks, budget, points=RUNGS) if _cheaper(plan, dearest)), dearest]


def make_pilot(
    engine: Engine,
    plans: Sequence[Plan],
    interval_ms: float,
    *,
    timing_s: float = TIMING_S,
    on_progress: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = perf_counter,
) -> Pilot:
    """Load the graphs of every plan, and know what each takes.

    Args:
        plans: cheapest first; those that do not fit the engine's memory limit are left out.
        timing_s: for timing the plans where the profile does not know all of them.
        on_progress: called as each plan is ready.
    """
    ready = engine.warm(budgets=plans, progress=lambda what, done, total: on_progress())
    rungs = ready or list(plans[:1])
    known = [plan.latency_ms for plan in rungs if plan.latency_ms is not None]
    if len(known) < len(rungs):
        picture = _picture()
        known = time_plans(lambda plan: engine(picture, budget=plan), rungs, time_limit_s=timing_s, clock=clock)
    first = rungs[0]
    headroom = first.p95_ms / first.latency_ms if first.p95_ms and first.latency_ms else HEADROOM
    return Pilot(rungs, known, interval_ms, headroom=max(headroom, 1.0))


def _cheaper(plan: Plan, other: Plan) -> bool:
    if plan.latency_ms is not None and other.latency_ms is not None:
        return plan.latency_ms < other.latency_ms
    return plan.flops < other.flops


def _picture() -> np.ndarray:
    """Soft random colours: a plain picture would send every token to the same experts."""
    import cv2

    coarse = np.random.default_rng(0).integers(0, 256, (_PICTURE_HW[0] // 16, _PICTURE_HW[1] // 16, 3), np.uint8)
    return cv2.resize(coarse, _PICTURE_HW[::-1], interpolation=cv2.INTER_CUBIC)
