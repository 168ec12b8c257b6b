"""Metrics of classes: of every pixel, and of the whole image. See `metrics`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tasks import IGNORED_CLASS

__all__ = ["Accuracy", "MeanIoU"]


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
        seen = np.isfinite(ious).sum(axis=-1)
        # Not a number: of pixels without a label nothing can be said.
        return np.where(seen > 0, np.nansum(ious, axis=-1) / np.maximum(seen, 1), np.nan)

    def compared(self, sums: np.ndarray) -> np.ndarray:
        return self.value(sums)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        right, _, missed = sums.reshape(3, self.classes)
        per_class = {
            f"IoU of {name}": float(iou) for name, iou in zip(self.names, self._ious(sums)) if np.isfinite(iou)
        }
        return {"pixel accuracy": float(right.sum() / max((right + missed).sum(), 1)), **per_class}


class Accuracy:
    """Sums: right images, images; of those that have a label."""

    name, higher_is_better = "accuracy", True

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        known = int(truth) != IGNORED_CLASS
        return np.array([float(known and answer.argmax() == int(truth)), float(known)])

    def value(self, sums: np.ndarray) -> np.ndarray:
        seen = sums[..., 1]
        return np.where(seen > 0, sums[..., 0] / np.maximum(seen, 1), np.nan)

    def compared(self, sums: np.ndarray) -> np.ndarray:
        return self.value(sums)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return {}
