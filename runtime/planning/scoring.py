"""How the planner compares: by measured accuracy, or, where that is missing, by FLOPs.

Both are sums over the encoder and the heads, which is what lets the decoders be merged one by one. FLOPs of a head
count by its task's preference (mean 1): more decoder to the preferred task, the encoder for the whole.
Axes: E encoders, W decoder widths, of a space.
"""

from __future__ import annotations

import numpy as np

from ..tasks import TaskChoice
from .configurations import Space
from .plan import ScoredBy
from .worth import TIE_BREAK, Accuracies, Point, keeps_floor

Size = tuple[int, int]


class Scorer:
    """Worths for one request; see `frontier.Score`."""

    def __init__(self, choice: TaskChoice, accuracies: Accuracies, reference_hw: Size, full_flops: int) -> None:
        total = sum(choice.preferences.values())
        self._weights = {task: preference / total for task, preference in choice.preferences.items()}
        self._floors = choice.floors
        self._accuracies = accuracies
        self._reference_hw = reference_hw
        self._full_flops = max(full_flops, 1)

    def __call__(self, scored_by: ScoredBy, space: Space) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The worth of each encoder [E], and per task that of each head with each encoder [E, W].

        -inf: not to be chosen, because the floor is not kept, or because it is to be compared and was not measured.
        """
        encoders = np.array([encoder.cost.flops for encoder in space.encoders]) / self._full_flops
        heads = {task: self._flops_worths(task, space) for task in space.heads}
        if scored_by == "accuracy":
            encoders = TIE_BREAK * encoders
            heads = {task: self._by_accuracy(task, space, worths) for task, worths in heads.items()}
        return encoders, {task: worths + self._forbidden(task, space) for task, worths in heads.items()}

    def keeps_floor(self, task: str, space: Space, point: Point) -> bool:
        """Is the task's measured accuracy at or above its floor? What was not measured keeps none."""
        if task not in self._floors:
            return True
        measured = self._accuracies.measured(task, space.size_hw, space.precision).get(point)
        full = self._accuracies.full(task, self._reference_hw)
        return measured is not None and full is not None and keeps_floor(measured, full, self._floors[task])

    def _flops_worths(self, task: str, space: Space) -> np.ndarray:
        flops = np.array([cost.flops for cost in space.heads[task].values()], np.float64)
        worths_W = self._weights[task] * len(self._weights) / self._full_flops * flops
        return np.broadcast_to(worths_W, (len(space.encoders), len(worths_W)))

    def _by_accuracy(self, task: str, space: Space, flops_worths_EW: np.ndarray) -> np.ndarray:
        found = self._accuracies.qualities(task, space.size_hw, space.precision, self._reference_hw)
        qualities_EW = np.array([[found.get(point, np.nan) for point in row] for row in space.points(task)])
        worths_EW = self._weights[task] * qualities_EW + TIE_BREAK * flops_worths_EW
        return np.where(np.isnan(qualities_EW), -np.inf, worths_EW)

    def _forbidden(self, task: str, space: Space) -> np.ndarray | float:
        """-inf where the floor is not kept, else 0."""
        if task not in self._floors:
            return 0.0
        kept = [[self.keeps_floor(task, space, point) for point in row] for row in space.points(task)]
        return np.where(kept, 0.0, -np.inf)
