"""How good an answer is: one metric per task, each from sums over images.

A metric turns every image into a short row of numbers whose *sum* over a set of images gives the value for that set.
Values of resampled sets, which is what intervals need, are then one matrix product away (see `bootstrap`).

- semseg, human_parts: mIoU (higher is better). Mean over classes of TP / (TP + FP + FN), all three summed over the set.
  Pixels labelled 255 are left out, and so are classes that neither occur nor are answered.
- depth: RMSE (lower is better). Root of the mean squared error in metres over all valid pixels of the set.
- normals: mErr (lower is better). Mean angle in degrees over all valid pixels of the set.
- edge: odsF (higher is better). Best F-measure over 49 thresholds, one threshold for the whole set; see `edge_match`.
- saliency: maxF (higher is better). Best F-measure with beta^2 = 0.3 over thresholds .05, .10, ... .95, precision and
  recall from counts summed over the set. The answer is a probability already: no second sigmoid.
- scene: accuracy (higher is better). Share of images whose most probable class is the right one.

Axes: H height, W width, K classes, T thresholds, S sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .edge_match import MAX_DISTANCE
from .errors import EvaluationError
from .metric_classes import Accuracy, MeanIoU
from .metric_geometry import DepthError, NormalsError
from .metric_maps import EdgeF, SaliencyF
from .tasks import TASK_KINDS

__all__ = ["Accuracy", "DepthError", "EdgeF", "MeanIoU", "Metric", "NormalsError", "SaliencyF", "metric_for"]


class Metric(Protocol):
    """One task's metric."""

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """What one image adds, float64 [S].

        Args:
            answer: as a `Result` of the runtime holds it.
            truth: as a sample of SynthRooms holds it.
        """
        ...

    def value(self, sums: np.ndarray) -> np.ndarray:
        """The metric for summed rows [..., S] -> [...]."""
        ...

    def compared(self, sums: np.ndarray) -> np.ndarray:
        """What delta_m compares, for summed rows [..., S] -> [...]: the metric, but for saliency the published mIoU."""
        ...

    def details(self, sums: np.ndarray) -> dict[str, float]:
        """Further figures for one summed row [S], by name."""
        ...


def metric_for(task: str, channels: int, classes: Sequence[str] = (), *, edge_distance: float = MAX_DISTANCE) -> Metric:
    """The metric of a task; `classes` are names for its further figures.

    Args:
        edge_distance: largest distance of matched edge pixels, as a share of the diagonal.

    Raises:
        EvaluationError: no metric is known for a task of that name.
    """
    kind = TASK_KINDS.get(task)
    if kind == "classes":
        return MeanIoU(channels, classes)
    simple: dict[str, type[Metric]] = {"depth": DepthError, "normals": NormalsError, "image_classes": Accuracy}
    if kind == "probability":
        return EdgeF(edge_distance) if task == "edge" else SaliencyF()
    if kind is None:
        raise EvaluationError(f"there is no metric for task '{task}'; there are some for {', '.join(TASK_KINDS)}")
    return simple[kind]()
