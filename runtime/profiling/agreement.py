"""How much two answers to one picture agree, task by task, and how much is enough below fp32.

The thresholds bound what rounding may change, not how good the model is: a bf16 answer that keeps them is one that
nobody would tell from the fp32 answer by its use. What it costs in accuracy is measured on labelled scenes
(`slimpath eval --backend openvino --precision bf16`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from ..bundles.preprocessing import Preprocessing
from ..imaging.preprocess import preprocess

ROOM_IMAGES = 3  # the room, mirrored, and its middle
_ROOM = Path(__file__).resolve().parent.parent.parent / "assets" / "synthrooms_scene.npz"


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task's answers compared. `bound` is the least or, where `at_most`, the largest value that passes.

    `value` is None where an answer is no number somewhere, which never passes.
    """

    measure: str
    value: float | None
    bound: float
    at_most: bool
    passed: bool

    def __str__(self) -> str:
        value = "is not a number" if self.value is None else f"{self.value:.4g}"
        return f"{self.measure} {value}, {'at most' if self.at_most else 'at least'} {self.bound:g}"


def compare(kind: str, answer: np.ndarray, reference: np.ndarray) -> Agreement:
    """Compare a head's outputs [R, C, H, W], or [R, K] for image classes.

    Args:
        kind: of the task.
    """
    measure, at_most, bound, value = _MEASURES[kind](answer.astype(np.float64), reference.astype(np.float64))
    if not np.isfinite(value):
        return Agreement(measure, None, bound, at_most, False)
    return Agreement(measure, value, bound, at_most, value <= bound if at_most else value >= bound)


def room_planes(preprocessing: Preprocessing, size_hw: tuple[int, int]) -> np.ndarray:
    """The rendered room that comes with slimpath, mirrored, and its middle, float32 [ROOM_IMAGES, 3, H, W]."""
    with np.load(_ROOM, allow_pickle=False) as scene:
        room = scene["image"]
    height, width = room.shape[:2]
    middle = room[height // 6 : height - height // 6, width // 6 : width - width // 6]
    return np.stack([preprocess(image, size_hw, preprocessing)[0] for image in (room, room[:, ::-1].copy(), middle)])


_Found = tuple[str, bool, float, float]  # measure, at most, bound, value


def _classes(answer: np.ndarray, reference: np.ndarray) -> _Found:
    same = answer.argmax(axis=1) == reference.argmax(axis=1)
    return "share of pixels of the same class", False, 0.98, float(same.mean())


def _depth(answer: np.ndarray, reference: np.ndarray) -> _Found:
    relative = np.abs(answer - reference) / np.maximum(np.abs(reference), 1e-3)
    return "mean relative difference", True, 0.01, float(relative.mean())


def _normals(answer: np.ndarray, reference: np.ndarray) -> _Found:
    cosine = (answer * reference).sum(axis=1)
    lengths = np.linalg.norm(answer, axis=1) * np.linalg.norm(reference, axis=1)
    angle = np.degrees(np.arccos(np.clip(cosine / np.maximum(lengths, 1e-12), -1, 1)))
    return "mean angle in degrees", True, 1.0, float(angle.mean())


def _probability(answer: np.ndarray, reference: np.ndarray) -> _Found:
    return "mean difference of the probability", True, 0.01, float(np.abs(answer - reference).mean())


def _image_classes(answer: np.ndarray, reference: np.ndarray) -> _Found:
    return "largest difference of a class's probability", True, 0.02, float(np.abs(answer - reference).max())


_MEASURES = {
    "classes": _classes,
    "depth": _depth,
    "normals": _normals,
    "probability": _probability,
    "image_classes": _image_classes,
}
