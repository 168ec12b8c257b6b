"""The Pareto set of one request: every plan that could be the best one for some budget, ready to be looked up.

Given the encoder, the decoders are independent: their lists are merged task by task, and what costs more and is worth
no more is dropped on the way, which loses no optimum. Where a budget limits several things, a point is dropped only if
another is no dearer in any of them. Memory is the weights' sum plus the highest peak of activations, and is carried as
these two until the end.
Axes: P points, A limited axes, C summed columns, E encoders, W decoder widths, T tasks in the order of the request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .configurations import EncoderChoice, Space
from .costs import PartCost
from .limits import STEPS, Axis, steps_of
from .pareto import Points, choose, pareto, start
from .plan import Plan, ScoredBy

# The worth of each encoder of a space [E], and by task of each head with each encoder [E, W]; -inf: not to be chosen.
Score = Callable[[Space], tuple[np.ndarray, dict[str, np.ndarray]]]
_TIE = 1e-12  # sums of the same numbers in another order differ by less


@dataclass(frozen=True)
class Frontier:
    """Points that nothing beats. With one axis cheapest first, worth rising with cost; else most worth first.

    Args:
        codes_P: the decoders, as a number with one digit per task.
        rows: the cost of each point when there is one axis: a list, which is searched faster than an array.
        plans: those made already, by point, text of the budget, and what of it is not kept.
    """

    axes: tuple[Axis, ...]
    scored_by: ScoredBy
    costs_PA: np.ndarray
    worths_P: np.ndarray
    spaces: Sequence[Space]
    space_of_P: np.ndarray
    encoder_of_P: np.ndarray
    codes_P: np.ndarray
    rows: list[int]
    plans: dict[tuple[int, str, tuple[str, ...]], Plan] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.worths_P)

    def best(self, most_A: Sequence[int]) -> int | None:
        """The point of most worth within the limits, None if there is none."""
        if len(self.axes) == 1:
            return bisect_right(self.rows, most_A[0]) - 1 if self.rows and self.rows[0] <= most_A[0] else None
        fits = self._within(most_A)
        found = int(fits.argmax()) if len(fits) else 0
        return found if len(fits) and fits[found] else None

    def nearest(self, most_A: Sequence[int]) -> tuple[float, int] | None:
        """The point that exceeds the limits by the least factor: that factor, and the point; None if empty."""
        if not len(self):
            return None
        factors = self.costs_PA[:, 0] / max(most_A[0], 1)
        for axis in range(1, len(self.axes)):
            factors = np.maximum(factors, self.costs_PA[:, axis] / max(most_A[axis], 1))
        found = int(factors.argmin())
        return float(factors[found]), found

    def costs_at(self, point: int) -> dict[Axis, int]:
        """What a point costs, in steps."""
        return dict(zip(self.axes, self.costs_PA[point].tolist()))

    def along(self, axis: int, most_A: Sequence[int]) -> list[tuple[int, int]]:
        """(cost, point) of the points within the other limits that nothing beats on one axis, cheapest first."""
        others = list(most_A)
        others[axis] = int(self.costs_PA[:, axis].max()) if len(self) else 0
        inside = np.flatnonzero(self._within(others))
        inside = inside[pareto(self.costs_PA[inside, axis : axis + 1], self.worths_P[inside], _TIE)]
        return list(zip(self.costs_PA[inside, axis].tolist(), inside.tolist()))

    def at(self, point: int) -> tuple[Space, EncoderChoice, tuple[float, ...]]:
        """The encoder and the decoder width of each task."""
        space, code = self.spaces[self.space_of_P[point]], int(self.codes_P[point])
        widths: list[float] = []
        for heads in reversed(space.heads.values()):  # the last choice is the last digit
            code, chosen = divmod(code, len(heads))
            widths.append(list(heads)[chosen])
        return space, space.encoders[self.encoder_of_P[point]], tuple(reversed(widths))

    def _within(self, most_A: Sequence[int]) -> np.ndarray:
        fits = self.costs_PA[:, 0] <= most_A[0]
        for axis in range(1, len(self.axes)):
            fits &= self.costs_PA[:, axis] <= most_A[axis]
        return fits


class _Columns:
    """What is summed while merging: one column per axis, and beside the weights of the memory axis their peaks."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self.fields = [("weights_mb" if axis == "memory_mb" else axis, STEPS[axis]) for axis in axes]
        self.memory = axes.index("memory_mb") if "memory_mb" in axes else None
        self.peaks: tuple[int, ...] = ()
        if self.memory is not None:
            self.peaks = (len(self.fields),)
            self.fields.append(("activations_mb", STEPS["memory_mb"]))

    def prices(self, costs: Sequence[PartCost]) -> np.ndarray:
        """The costs of several parts, int64 [parts, C]."""
        return np.array([steps_of(name, per_unit, costs) for name, per_unit in self.fields], np.int64).T

    def base(self, space: Space) -> np.ndarray:
        """What each encoder costs together with the call, int64 [E, C]."""
        call_C, encoders_EC = self.prices([space.call])[0], self.prices([e.cost for e in space.encoders])
        base_EC = encoders_EC + call_C
        for column in self.peaks:
            base_EC[:, column] = np.maximum(encoders_EC[:, column], call_C[column])
        return base_EC

    def of_axes(self, costs_PC: np.ndarray) -> np.ndarray:
        """Weights and their peak become memory."""
        if self.memory is None:
            return costs_PC
        costs_PA = costs_PC[:, :-1].copy()
        costs_PA[:, self.memory] += costs_PC[:, -1]
        return costs_PA


def prices_of(axis: Axis, costs: Sequence[PartCost]) -> np.ndarray:
    """The costs of several parts on one axis that adds up, in steps, int64 [parts]."""
    return np.array(steps_of(axis, STEPS[axis], costs), np.int64)


def build_frontier(spaces: Sequence[Space], axes: tuple[Axis, ...], scored_by: ScoredBy, score: Score) -> Frontier:
    """Everything that there is to choose from, less what is beaten on `axes` and worth."""
    columns = _Columns(axes)
    found = [_points_of(space, columns, score) for space in spaces]
    costs_PA = np.concatenate([columns.of_axes(points.costs_NC) for points in found])
    worths_P = np.concatenate([points.worths_N for points in found])
    space_of_P = np.repeat(np.arange(len(found)), [len(points) for points in found])
    keep = pareto(costs_PA, worths_P, _TIE)
    if len(axes) > 1:
        keep = keep[np.argsort(-worths_P[keep], kind="stable")]
    return Frontier(
        axes,
        scored_by,
        costs_PA[keep],
        worths_P[keep],
        spaces,
        space_of_P[keep],
        np.concatenate([points.group_N for points in found])[keep],
        np.concatenate([points.code_N for points in found])[keep],
        costs_PA[keep, 0].tolist() if len(axes) == 1 else [],
    )


def _points_of(space: Space, columns: _Columns, score: Score) -> Points:
    worths_E, worths_TEW = score(space)
    points = start(columns.base(space), worths_E)
    for task, heads in space.heads.items():
        points = choose(points, columns.prices(list(heads.values())), worths_TEW[task], columns.peaks)
    return points
