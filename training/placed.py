"""Samples of any size as a network sees them: picture and labels fitted to one plane, padding without a label.

Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..runtime.bundles.preprocessing import Preprocessing
from ..runtime.imaging.preprocess import Placement, place
from .sources import SampleSource
from .tasks import IGNORED_CLASS, TASK_KINDS

__all__ = ["Placed", "Subset", "spread"]


class Placed:
    """Samples with `image` and the labels of `tasks` at `size_hw`."""

    def __init__(
        self, source: SampleSource, tasks: Sequence[str], size_hw: tuple[int, int], preprocessing: Preprocessing
    ) -> None:
        self.source, self.tasks = source, tuple(tasks)
        self.size_hw, self.preprocessing = size_hw, preprocessing

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        sample = self.source[index]
        image = sample["image"]
        placement = place(image.shape[:2], self.size_hw, self.preprocessing.fit)
        shrinks = placement.height * placement.width < image.shape[0] * image.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        found = {"image": _fit(image, placement, how, self.preprocessing.pad_rgb)}
        for task in self.tasks:
            found[task] = _fit_label(task, sample[task], placement)
        return found


def _fit_label(task: str, truth: Any, placement: Placement) -> Any:
    kind = TASK_KINDS[task]
    if kind == "image_classes":
        return truth
    nothing = IGNORED_CLASS if kind in ("classes", "probability") else 0
    return _fit(np.asarray(truth), placement, cv2.INTER_NEAREST_EXACT, nothing)


def _fit(array: np.ndarray, placement: Placement, how: int, padding: int | tuple[int, ...]) -> np.ndarray:
    height, width = placement.height, placement.width
    if array.shape[:2] != (height, width):
        array = cv2.resize(np.ascontiguousarray(array), (width, height), interpolation=how)
    plane = np.empty((*placement.size_hw, *array.shape[2:]), array.dtype)
    plane[...] = padding
    plane[placement.top : placement.top + height, placement.left : placement.left + width] = array
    return plane


class Subset:
    """Some samples of a source."""

    def __init__(self, source: SampleSource, numbers: Sequence[int]) -> None:
        self.source, self.numbers = source, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        return self.source[self.numbers[index]]


def spread(count: int, most: int | None) -> list[int]:
    """At most `most` numbers below `count`, evenly spaced; all of them where `most` is None."""
    chosen = count if most is None else min(most, count)
    return [number * count // chosen for number in range(chosen)]
