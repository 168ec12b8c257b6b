"""Answers that do not look at the image: what a metric is worth before anything was learnt.

Both are fitted on training scenes. `constant` says the same everywhere: the commonest class, the mean depth, the mean
normal, "yes" for edges and saliency (a constant probability marks all pixels or none, and none scores 0), the
commonest room. `pixel_mean` is harder to beat: the same per pixel, which knows that floors are below and ceilings
above; for edges and saliency it is the share of scenes that have one there. Labels of whole images have no pixels:
there both are the same.

Axes: H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import EvaluationError
from .sources import SampleSource
from .tasks import IGNORED_CLASS, TASK_KINDS

__all__ = ["Baselines", "fit_baselines"]


@dataclass(frozen=True)
class Baselines:
    """Answers by task, in the form of a `Result`; fitted on `scenes` scenes."""

    constant: dict[str, np.ndarray]
    pixel_mean: dict[str, np.ndarray]
    scenes: int


@dataclass
class _Sums:
    """What is kept of the scenes seen so far: per pixel, the sum of a label's values, and how many had one."""

    total: Any = 0.0
    count: Any = 0.0
    scenes: int = field(default=0)

    def add(self, values: np.ndarray, valid: np.ndarray) -> None:
        self.total = self.total + values * valid
        self.count = self.count + valid
        self.scenes += 1


def fit_baselines(source: SampleSource, channels: Mapping[str, int], size_hw: tuple[int, int]) -> Baselines:
    """Fit both baselines of each task on every sample of `source`.

    Args:
        source: training samples.
        channels: the tasks, and how many classes those with classes have.
        size_hw: size of the samples and of the answers.

    Raises:
        EvaluationError: there are no samples, or they have another size.
    """
    if not len(source):
        raise EvaluationError("baselines need at least one training scene, got none")
    sums = {task: _Sums() for task in channels}
    for number in range(len(source)):
        sample = source[number]
        if sample["image"].shape[:2] != size_hw:
            raise EvaluationError(f"training scenes must be {size_hw}, got {sample['image'].shape[:2]}")
        for task, count in channels.items():
            sums[task].add(*_values(task, sample[task], count))
    constant = {task: _constant(task, sums[task], size_hw) for task in channels}
    pixel_mean = {task: _pixel_mean(task, sums[task], constant[task]) for task in channels}
    return Baselines(constant, pixel_mean, len(source))


def _values(task: str, truth: Any, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A label as numbers to average, and where it has some: [H,W,K or C] and [H,W,1]; [K] and [1] for images."""
    kind = TASK_KINDS[task]
    if kind == "image_classes":
        known = int(truth) != IGNORED_CLASS
        return np.eye(classes)[int(truth) if known else 0], np.array([float(known)])
    truth = np.asarray(truth)
    if kind == "classes":
        return (truth[..., None] == np.arange(classes)).astype(np.float64), (truth != IGNORED_CLASS)[..., None]
    if kind == "depth":
        valid = np.isfinite(truth) & (truth > 0)
        return np.where(valid, truth, 0)[..., None].astype(np.float64), valid[..., None]
    if kind == "normals":
        return np.nan_to_num(truth).astype(np.float64), (np.nan_to_num(truth) ** 2).sum(-1, keepdims=True) > 0.25
    return (truth == 1)[..., None].astype(np.float64), (truth != IGNORED_CLASS)[..., None]


def _constant(task: str, sums: _Sums, size_hw: tuple[int, int]) -> np.ndarray:
    kind = TASK_KINDS[task]
    if kind == "image_classes":
        return (sums.total / np.maximum(sums.count, 1)).astype(np.float32)
    if kind == "probability":
        return np.ones(size_hw, np.float32)
    mean = sums.total.sum((0, 1)) / max(1.0, sums.count.sum())
    if kind == "classes":
        return np.full(size_hw, mean.argmax(), np.uint8)
    if kind == "depth":
        return np.full(size_hw, mean[0], np.float32)
    return np.broadcast_to((mean / max(np.linalg.norm(mean), 1e-12)).astype(np.float32), (*size_hw, 3)).copy()


def _pixel_mean(task: str, sums: _Sums, constant: np.ndarray) -> np.ndarray:
    """Per pixel; the constant answer where no scene had a label."""
    kind = TASK_KINDS[task]
    if kind == "image_classes":
        return constant
    mean, seen = sums.total / np.maximum(sums.count, 1), sums.count[..., 0] > 0
    if kind == "classes":
        return np.where(seen, mean.argmax(-1), constant).astype(np.uint8)
    if kind == "normals":
        length = np.linalg.norm(mean, axis=-1, keepdims=True)
        return np.where(length > 1e-6, mean / np.maximum(length, 1e-6), constant).astype(np.float32)
    return np.where(seen, mean[..., 0], constant).astype(np.float32)
