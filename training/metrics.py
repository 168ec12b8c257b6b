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

from .edge_match import match_counts
from .errors import EvaluationError
from .tasks import IGNORED_CLASS, TASK_KINDS

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

    def details(self, sums: np.ndarray) -> dict[str, float]:
        """Further figures for one summed row [S], by name."""
        ...


def metric_for(task: str, channels: int, classes: Sequence[str] = ()) -> Metric:
    """The metric of a task; `classes` are names for its further figures.

    Raises:
        EvaluationError: no metric is known for a task of that name.
    """
    kind = TASK_KINDS.get(task)
    if kind == "classes":
        return MeanIoU(channels, classes)
    simple: dict[str, type[Metric]] = {"depth": DepthError, "normals": NormalsError, "image_classes": Accuracy}
    if kind == "probability":
        return EdgeF() if task == "edge" else SaliencyF()
    if kind is None:
        raise EvaluationError(f"there is no metric for task '{task}'; there are some for {', '.join(TASK_KINDS)}")
    return simple[kind]()


class MeanIoU:
    """Sums: TP, FP, FN of each class."""

    name, higher_is_better = "mIoU", True

    def __init__(self, classes: int, names: Sequence[str] = ()) -> None:
        self.classes = classes
        self.names = names or [f"class {k}" for k in range(classes)]

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        valid = truth != IGNORED_CLASS
        pairs = truth[valid].astype(np.int64) * self.classes + answer[valid]
        confusion = np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)
        right = confusion.diagonal()
        return np.concatenate([right, confusion.sum(0) - right, confusion.sum(1) - right]).astype(np.float64)

    def _ious(self, sums: np.ndarray) -> np.ndarray:
        right, surplus, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, self.classes), -2, 0)
        union = right + surplus + missed
        return np.where(union > 0, right / np.maximum(union, 1), np.nan)

    def value(self, sums: np.ndarray) -> np.ndarray:
        ious = self._ious(sums)
        return np.nansum(ious, axis=-1) / np.maximum(np.isfinite(ious).sum(axis=-1), 1)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        right, _, missed = sums.reshape(3, self.classes)
        per_class = {
            f"IoU of {name}": float(iou) for name, iou in zip(self.names, self._ious(sums)) if np.isfinite(iou)
        }
        return {"pixel accuracy": float(right.sum() / (right + missed).sum()), **per_class}


class DepthError:
    """Sums: squared error, relative error, pixels within a factor of 1.25, valid pixels."""

    name, higher_is_better = "RMSE", False

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        valid = np.isfinite(truth) & (truth > 0)
        metres, true = answer[valid].astype(np.float64), truth[valid].astype(np.float64)
        error = metres - true
        near = np.maximum(metres, true) < 1.25 * np.minimum(metres, true)
        return np.array([(error * error).sum(), (np.abs(error) / true).sum(), near.sum(), len(true)])

    def value(self, sums: np.ndarray) -> np.ndarray:
        return np.sqrt(sums[..., 0] / sums[..., 3])

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return {"absrel": float(sums[1] / sums[3]), "delta < 1.25": float(sums[2] / sums[3])}


class NormalsError:
    """Sums: degrees, pixels within each of the limits, valid pixels."""

    name, higher_is_better = "mErr", False
    limits_deg = (11.25, 22.5, 30.0)

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        unit, true, valid = _unit(answer), _unit(truth), _lengths(truth) > 0.5
        # Exact for small angles too, where the arc cosine of a dot product is noise.
        angle = np.degrees(2 * np.arctan2(_lengths(unit - true), _lengths(unit + true)))[valid]
        return np.array(
            [angle.sum(dtype=np.float64), *((angle < limit).sum() for limit in self.limits_deg), len(angle)]
        )

    def value(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., -1]

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return {f"within {limit:g} deg": float(n / sums[-1]) for limit, n in zip(self.limits_deg, sums[1:-1])}


def _lengths(vectors_HW3: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("hwc,hwc->hw", vectors_HW3, vectors_HW3))


def _unit(vectors_HW3: np.ndarray) -> np.ndarray:
    return vectors_HW3 / np.maximum(_lengths(vectors_HW3), 1e-6)[..., None]


class EdgeF:
    """Sums: matched, answered and true edge pixels at each threshold."""

    name, higher_is_better = "odsF", True
    thresholds_T = np.linspace(0.02, 0.98, 49).astype(np.float32)

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return match_counts(answer, truth, self.thresholds_T).reshape(-1).astype(np.float64)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return _f_measures(sums, 1.0).max(axis=-1)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return _at_best(sums, 1.0, self.thresholds_T)


class SaliencyF:
    """Sums: right, answered and true salient pixels at each threshold."""

    name, higher_is_better = "maxF", True
    beta2 = 0.3
    thresholds_T = np.linspace(0.05, 0.95, 19).astype(np.float32)

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        valid = truth != IGNORED_CLASS
        level = np.searchsorted(self.thresholds_T, answer[valid], side="right")  # thresholds that a pixel reaches
        bins = len(self.thresholds_T) + 1
        counts = np.bincount(level + bins * (truth[valid] == 1), minlength=2 * bins).reshape(2, bins)
        reaching = counts[:, ::-1].cumsum(axis=1)[:, -2::-1]  # pixels at or above each threshold
        right, answered = reaching[1], reaching.sum(axis=0)
        return np.concatenate([right, answered, np.full_like(right, counts[1].sum())]).astype(np.float64)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return _f_measures(sums, self.beta2).max(axis=-1)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return _at_best(sums, self.beta2, self.thresholds_T)


def _precision_recall(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right, answered, true = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return right / np.maximum(answered, 1), right / np.maximum(true, 1)


def _f_measures(sums: np.ndarray, beta2: float) -> np.ndarray:
    precision, recall = _precision_recall(sums)
    return (1 + beta2) * precision * recall / np.maximum(beta2 * precision + recall, 1e-12)


def _at_best(sums: np.ndarray, beta2: float, thresholds_T: np.ndarray) -> dict[str, float]:
    best = int(_f_measures(sums, beta2).argmax())
    precision, recall = (float(values[best]) for values in _precision_recall(sums))
    return {"precision": precision, "recall": recall, "threshold": float(thresholds_T[best])}


class Accuracy:
    """Sums: right images, images."""

    name, higher_is_better = "accuracy", True

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.array([float(answer.argmax() == int(truth)), 1.0])

    def value(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return {}
