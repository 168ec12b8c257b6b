"""Controllability: how much of the room of task accuracies preferences can reach at a fixed budget.

Efficient Controllable Multi-Task Architectures (Aich et al. 2023) judges by the hypervolume that the accuracies of many
preferences dominate; its reference point is not public. Here:

- the planner chooses a configuration for every preference of an even grid over all mixtures of tasks, each budget being
  a share of the full FLOPs;
- a task's quality is (value - trivial) / (ideal - trivial); ideal is 1 for scores, 0 for errors. So the reference point
  (0, ..., 0) is the answer that ignores the picture, and 1 is perfect: models measured on the same data compare;
- the hypervolume is that of the qualities above the reference point. Its T-th root, the `side`, reads like a quality.

Axes: P plans, T tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import msgspec
import numpy as np

from ..runtime.bundles.accuracy import Accuracy
from ..runtime.bundles.graph_spec import FULL_PRECISION
from ..runtime.bundles.manifest import Manifest
from ..runtime.planning.plan import Plan
from ..runtime.planning.planner import Planner
from .errors import EvaluationError
from .eval_report import EvalReport
from .hypervolume import hypervolume

__all__ = [
    "ControlRow", "check_control", "control_table", "controllability", "mixtures", "quality", "with_report",
]  # fmt: skip

_MOST_MIXTURES = 150
_Key = tuple[str, float, int, float, str]  # task, encoder width, top_k, decoder width, precision


@dataclass(frozen=True)
class ControlRow:
    """What preferences reach at one budget.

    Args:
        budget: share of the full FLOPs of all tasks together.
        mixtures: preferences that were tried, beside equal ones.
        plans: different configurations that the planner chose for them; 0 where none fits the budget.
        hypervolume, side: of the qualities of these plans; the side is the T-th root.
        even: the side of the plan for equal preferences alone: what the budget gives without control.
        reached: by task, the worst and the best quality over the preferences.
    """

    budget: float
    mixtures: int
    plans: int
    hypervolume: float
    side: float
    even: float
    reached: dict[str, tuple[float, float]]


def mixtures(tasks: int) -> Iterator[tuple[float, ...]]:
    """An even grid over all mixtures of tasks: shares that sum to 1, at most 150 of them."""
    steps = max(step for step in range(1, 25) if comb(step + tasks - 1, tasks - 1) <= max(_MOST_MIXTURES, tasks))
    for parts in _partitions(steps, tasks):
        yield tuple(part / steps for part in parts)


def _partitions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _partitions(total - first, parts - 1):
            yield (first, *rest)


def quality(accuracy: Accuracy) -> float:
    """Where a value lies between the trivial answer, 0, and a perfect one, 1; not below 0."""
    span = (1.0 if accuracy.higher_is_better else 0.0) - accuracy.trivial
    return max(0.0, (accuracy.value - accuracy.trivial) / span) if span else 0.0


def check_control(tasks: Sequence[str], precisions: Sequence[str]) -> None:
    """Refuse, before anything is measured, what `controllability` could say nothing of.

    Args:
        tasks, precisions: what will be measured.

    Raises:
        EvaluationError: a single task, or no fp32 graphs.
    """
    _check_tasks(tasks)
    if FULL_PRECISION not in precisions:
        raise EvaluationError(
            f"the planner judges by accuracies of {FULL_PRECISION} graphs, of which --precision "
            f"{', '.join(precisions)} measures none; control can be told with --precision all"
        )


def _check_tasks(tasks: Sequence[str]) -> None:
    if len(tasks) < 2:
        raise EvaluationError(f"preferences need two tasks that were measured, got {', '.join(tasks) or 'none'}")


def controllability(
    manifest: Manifest, budgets: Sequence[float], size_hw: tuple[int, int] | None = None
) -> tuple[ControlRow, ...]:
    """A row for every budget, in the order given, over the tasks that the manifest has accuracies of.

    Args:
        manifest: with accuracies of every configuration, as `slimpath eval --grid --write` puts them there.
        budgets: shares of the full FLOPs.
        size_hw: the bundle's first size by default.

    Raises:
        EvaluationError: fewer than two tasks have accuracies, a budget is no share, or the planner could not plan by
            accuracy or chose what was not measured.
    """
    size_hw = size_hw or manifest.sizes[0]
    measured: dict[_Key, float] = {
        (point.task, point.encoder_width, point.top_k, point.decoder_width, point.precision): quality(point)
        for point in manifest.accuracies
        if (point.size_hw or manifest.sizes[0]) == size_hw
    }
    tasks = [task for task in manifest.task_names if any(key[0] == task for key in measured)]
    _check_tasks(tasks)
    if wrong := [budget for budget in budgets if not 0 < budget <= 1]:
        raise EvaluationError(f"budgets must be shares above 0, at most 1, got {wrong[0]:g}")
    planner = Planner(manifest)
    return tuple(_row(planner, measured, tasks, size_hw, budget) for budget in budgets)


def with_report(manifest: Manifest, report: EvalReport) -> Manifest:
    """The manifest with the accuracies of a report, under the precision of the graphs, which is what plans name.

    The manifest's own go: they may be of other data. At the measured size the planner needs no others.
    """
    accuracies = [
        msgspec.structs.replace(accuracy, precision=row.configuration.precision)
        for accuracy, row in zip(report.accuracies(), report.rows, strict=True)
    ]
    return msgspec.structs.replace(manifest, accuracies=tuple(accuracies))


def _row(
    planner: Planner, measured: Mapping[_Key, float], tasks: Sequence[str], size_hw: tuple[int, int], budget: float
) -> ControlRow:
    tried = list(mixtures(len(tasks)))
    plans = [planner.plan(dict(zip(tasks, mixture, strict=True)), budget, size=size_hw) for mixture in tried]
    even = planner.plan(dict.fromkeys(tasks, 1.0), budget, size=size_hw)
    points = {_point(plan, tasks, measured) for plan in (even, *plans) if plan.budget_met}
    if not even.budget_met:  # what fits does not depend on preferences
        return ControlRow(budget, len(tried), 0, 0.0, 0.0, 0.0, dict.fromkeys(tasks, (0.0, 0.0)))
    points_PT = np.array(sorted(points))
    volume = hypervolume(points_PT, np.zeros(len(tasks)))
    ends = zip(tasks, points_PT.min(axis=0), points_PT.max(axis=0), strict=True)
    return ControlRow(
        budget,
        len(tried),
        len(points),
        volume,
        volume ** (1 / len(tasks)),
        float(np.prod(_point(even, tasks, measured))) ** (1 / len(tasks)),
        {task: (float(low), float(high)) for task, low, high in ends},
    )


def _point(plan: Plan, tasks: Sequence[str], measured: Mapping[_Key, float]) -> tuple[float, ...]:
    """The quality of each task under a plan.

    Raises:
        EvaluationError: it was not measured, or not chosen for its accuracy.
    """
    if plan.scored_by != "accuracy":
        raise EvaluationError("the planner had to choose by FLOPs, for want of accuracies; measure with --grid")
    keys = [(task, plan.encoder_width, plan.top_k, plan.decoder_widths[task], plan.precision) for task in tasks]
    if missing := [key for key in keys if key not in measured]:
        raise EvaluationError(f"the planner chose {missing[0]}, which was not measured; measure with --grid")
    return tuple(measured[key] for key in keys)


def control_table(rows: Sequence[ControlRow]) -> tuple[list[str], list[list[str]]]:
    """Column names and a line per budget."""
    tasks = list(rows[0].reached) if rows else []
    columns = ["budget", "plans", "hypervolume", "side", "equal preferences", *(f"{task}, from to" for task in tasks)]
    lines = [
        [
            f"{row.budget:g}",
            f"{row.plans}" if row.plans else "none fits",
            *(f"{value:.4g}" for value in (row.hypervolume, row.side, row.even)),
            *(f"{low:.3f} {high:.3f}" for low, high in row.reached.values()),
        ]
        for row in rows
    ]
    return columns, lines
