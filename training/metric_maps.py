"""Metrics of probabilities per pixel: edges and saliency. See `metrics`.

Axes: T thresholds.
"""

from __future__ import annotations

import numpy as np

from .edge_match import MAX_DISTANCE, match_counts
from .tasks import IGNORED_CLASS

__all__ = ["EdgeF", "SaliencyF"]


class EdgeF:
    """Sums: matched, answered and true edge pixels at each threshold."""

    name, higher_is_better = "odsF", True
    thresholds_T = np.linspace(0.02, 0.98, 49).astype(np.float32)

    def __init__(self, max_distance: float = MAX_DISTANCE) -> None:
        self.max_distance = max_distance

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return match_counts(answer, truth, self.thresholds_T, self.max_distance).reshape(-1).astype(np.float64)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return _f_measures(sums, 1.0).max(axis=-1)

    def compared(self, sums: np.ndarray) -> np.ndarray:
        return self.value(sums)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        return _at_best(sums, 1.0, self.thresholds_T)


class SaliencyF:
    """Sums: right, answered and true salient pixels at each threshold; then what other published figures need.

    These are the IoU, precision and recall of each image at other thresholds (Vandenhende et al. average them over
    images), the number of images, and the first three again behind a second sigmoid (as InvPT and MTLoRA have it).
    """

    name, higher_is_better = "maxF", True
    beta2 = 0.3
    thresholds_T = np.linspace(0.05, 0.95, 19).astype(np.float32)
    image_thresholds_T = np.linspace(0.2, 0.9, 15)

    def sums(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        valid = truth != IGNORED_CLASS
        if not valid.any():  # no image to take a mean over: it would count as one that was answered perfectly
            return np.zeros(6 * len(self.thresholds_T) + 3 * len(self.image_thresholds_T) + 1)
        known, true = answer[valid], truth[valid] == 1
        of_set = _counts(np.searchsorted(self.thresholds_T, known, side="right"), true, len(self.thresholds_T))
        # Strictly above a threshold here, as the published evaluators of single images compare.
        levels = np.searchsorted(self.image_thresholds_T, known.astype(np.float64), side="left")
        of_image = _image_figures(_counts(levels, true, len(self.image_thresholds_T)))
        again = 1 / (1 + np.exp(-known.astype(np.float64)))
        twice = _counts(np.searchsorted(self.thresholds_T, again, side="right"), true, len(self.thresholds_T))
        return np.concatenate([of_set.ravel(), of_image.ravel(), [1.0], twice.ravel()])

    def _parts(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts of the set, means over images [3, T], and counts of the set behind a second sigmoid."""
        count, images = 3 * len(self.thresholds_T), 3 * len(self.image_thresholds_T)
        number = np.maximum(sums[..., count + images, None], 1)
        return sums[..., :count], sums[..., count : count + images] / number, sums[..., count + images + 1 :]

    def value(self, sums: np.ndarray) -> np.ndarray:
        return _f_measures(self._parts(sums)[0], self.beta2).max(axis=-1)

    def compared(self, sums: np.ndarray) -> np.ndarray:
        """The mIoU of Vandenhende et al.: mean over images at the best threshold."""
        return self._parts(sums)[1][..., : len(self.image_thresholds_T)].max(axis=-1)

    def details(self, sums: np.ndarray) -> dict[str, float]:
        of_set, of_images, twice = self._parts(sums)
        _, precision, recall = of_images.reshape(3, -1)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        return {
            **_at_best(of_set, self.beta2, self.thresholds_T),
            "mIoU": float(self.compared(sums)),
            "maxF1 of means": float(f1.max()),
            "maxF behind a second sigmoid": float(_f_measures(twice, self.beta2).max()),
        }


def _counts(level: np.ndarray, true: np.ndarray, thresholds: int) -> np.ndarray:
    """Right, answered and true pixels at each threshold, float64 [3, T], from how many thresholds a pixel reaches."""
    bins = thresholds + 1
    counts = np.bincount(level + bins * true, minlength=2 * bins).reshape(2, bins)
    reaching = counts[:, ::-1].cumsum(axis=1)[:, -2::-1]  # pixels at or above each threshold
    right = reaching[1]
    return np.stack([right, reaching.sum(axis=0), np.full_like(right, counts[1].sum())]).astype(np.float64)


def _image_figures(counts_3T: np.ndarray) -> np.ndarray:
    """IoU, precision and recall of one image at each threshold [3, T]; an IoU of nothing with nothing is 1."""
    right, answered, true = counts_3T
    union = answered + true - right
    iou = np.where(union > 0, right / np.maximum(union, 1), 1.0)
    return np.stack([iou, right / np.maximum(answered, 1), right / np.maximum(true, 1)])


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
