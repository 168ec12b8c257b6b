"""One sample as pictures: what the network saw, what is true, what it answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..runtime.imaging.pictures import class_name, display_image, task_cell
from ..runtime.imaging.pictures_colour import depth_range_m
from ..runtime.imaging.pictures_layout import Cell
from ..runtime.tasks import TaskSpec
from .tasks import IGNORED_CLASS

__all__ = ["CELL_PX", "in_words", "sample_cells"]

CELL_PX = 240


def sample_cells(spec: TaskSpec, image_HWC: np.ndarray, truth: Any, answer: np.ndarray) -> list[Cell]:
    """Picture, truth and answer in the same colours; the picture alone where the whole image has one label."""
    shown = display_image(image_HWC, 2 * CELL_PX)
    if spec.kind == "image_classes":
        return [Cell(shown)]
    truth = np.asarray(truth)
    range_m = None
    if spec.kind == "depth":
        valid = truth[np.isfinite(truth) & (truth > 0)]
        range_m = depth_range_m(valid if valid.size else answer)
    if spec.kind == "probability":
        truth = np.where(truth == IGNORED_CLASS, 0, truth)
    if spec.kind == "classes":
        # What nobody labelled takes the answer's class, so that it cannot look like a mistake.
        truth = np.where(truth == IGNORED_CLASS, answer, truth)
    else:
        truth = truth.astype(np.float32)
    return [Cell(shown), *(_bare(task_cell(spec, values, shown, range_m=range_m)) for values in (truth, answer))]


def in_words(spec: TaskSpec, truth: Any, answer: np.ndarray) -> list[str]:
    """Truth and answer in words, of tasks with one label per image."""
    if spec.kind != "image_classes":
        return []
    best = int(np.argmax(answer))
    return [f"is {class_name(spec, int(truth))}", f"answer {class_name(spec, best)} {answer[best]:.0%}"]


def _bare(cell: Cell) -> Cell:
    """Without title and note, which the columns have; with its legend."""
    return replace(cell, title="", note="")
