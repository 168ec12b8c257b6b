"""A frame and its answers -> one picture of constant size: the camera, every dense task, and a line of figures.

Written for speed: each task is drawn at the size of its cell, and text only when it changes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..imaging.pictures import image_part, task_cell
from ..imaging.pictures_colour import depth_range_m
from ..imaging.pictures_layout import fit_inside
from ..imaging.pictures_text import BODY_PX, chip, draw_text, line_height, text_width

if TYPE_CHECKING:
    from ..result import Result

WIDEST_PX = 1280
CELL_PX = (160, 480)  # the longer side of a cell is between these
GAP_PX = 4
BAR_PX = line_height(BODY_PX) + 10
_INK = (24, 27, 33)
_TEXT = (232, 234, 238)
_MUTED = (150, 156, 168)
_KNOB = (255, 176, 32)
_RANGE_MEMORY = 0.95  # depth's colours follow the scene slowly: a range of its own for every frame flickers
_CLASS_COVER = 0.65  # of the class colours over the photograph, which shows through


class Drawer:
    """Draws one stream.

    Args:
        cell_px: length of the longer side of each picture; by default so that all fit in 1280 pixels.
    """

    def __init__(self, cell_px: int | None = None) -> None:
        self._cell_px = cell_px
        self._columns = 0
        self._cell_hw = (0, 0)
        self._page = np.zeros((0, 0, 3), np.uint8)  # without pictures
        self._range_m: tuple[float, float] | None = None
        self._bar: tuple[tuple[str, float], np.ndarray] | None = None

    def draw(self, rgb_HWC: np.ndarray, result: Result, line: str, share: float) -> np.ndarray:
        """One picture, uint8 RGB, of the same size for every frame of the stream.

        Args:
            line: the figures under the pictures.
            share: of the full cost that was spent, in [0, 1]: where the knob stands.
        """
        dense = [task for task in result if result.specs[task].kind != "image_classes"]
        if not self._columns:
            self._lay_out(1 + len(dense), rgb_HWC.shape[:2])
        photograph = _resize(rgb_HWC, fit_inside(rgb_HWC.shape[:2], self._cell_hw))
        pictures = {_labels(result) or "camera": photograph}
        pictures |= {task: self._task(task, result, photograph) for task in dense}
        page = self._grid(pictures)
        self._draw_bar(page, line, share)
        return page

    def _lay_out(self, count: int, frame_hw: tuple[int, int]) -> None:
        """The first frame decides."""
        self._columns = columns_for(count, frame_hw)
        widest = (WIDEST_PX - GAP_PX) // self._columns - GAP_PX
        longest = self._cell_px or min(max(widest, CELL_PX[0]), CELL_PX[1])
        self._cell_hw = height, width = fit_inside(frame_hw, (longest, longest))
        rows = -(-count // self._columns)
        size_hw = rows * (height + GAP_PX) + GAP_PX + BAR_PX, self._columns * (width + GAP_PX) + GAP_PX
        # Even sides: video encoders store colour for two pixels at once.
        self._page = np.full((size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2, 3), _INK, np.uint8)

    def _task(self, task: str, result: Result, photograph_HWC: np.ndarray) -> np.ndarray:
        spec, values = result.specs[task], image_part(result[task], result)
        if spec.kind == "depth":
            self._range_m = _follow(self._range_m, depth_range_m(values))
        picture = task_cell(spec, values, photograph_HWC, range_m=self._range_m).picture_HWC
        if spec.kind == "classes":
            picture = cv2.addWeighted(picture, _CLASS_COVER, photograph_HWC, 1 - _CLASS_COVER, 0)
        return picture

    def _grid(self, pictures: dict[str, np.ndarray]) -> np.ndarray:
        """Pictures in reading order, each in the middle of its cell, with its name on a chip."""
        height, width = self._cell_hw
        page = self._page.copy()
        for index, (name, picture) in enumerate(pictures.items()):
            row, column = divmod(index, self._columns)
            top, left = GAP_PX + row * (height + GAP_PX), GAP_PX + column * (width + GAP_PX)
            cell = page[top : top + height, left : left + width]
            above, beside = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
            cell[above : above + picture.shape[0], beside : beside + picture.shape[1]] = picture
            chip(cell, name)
        return page

    def _draw_bar(self, page: np.ndarray, line: str, share: float) -> None:
        key = line, round(share, 2)
        if self._bar is None or self._bar[0] != key:
            self._bar = key, _bar(page.shape[1], *key)
        page[-BAR_PX:] = self._bar[1]


def columns_for(count: int, size_hw: tuple[int, int]) -> int:
    """How many cells to a row, so that the page comes close to 16:9 and few places stay empty."""
    aspect = size_hw[1] / size_hw[0]

    def distance(columns: int) -> float:
        rows = -(-count // columns)
        return abs(math.log(aspect * columns / rows / (16 / 9))) + 2.0 * (columns * rows - count) / count

    return min(range(1, count + 1), key=distance)


def _labels(result: Result) -> str:
    """What image-level tasks say: "scene: living room 72%"."""
    said = [
        "{}: {} {:.0%}".format(task, *result.label(task)).replace("_", " ")
        for task in result
        if result.specs[task].kind == "image_classes"
    ]
    return ", ".join(said)


def _resize(rgb_HWC: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Averaging where it shrinks to less than half, else linear, which takes a sixth of the time."""
    shrinks = 2 * size_hw[0] < rgb_HWC.shape[0]
    return cv2.resize(rgb_HWC, size_hw[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _follow(known: tuple[float, float] | None, seen: tuple[float, float]) -> tuple[float, float]:
    if known is None:
        return seen
    low, high = (_RANGE_MEMORY * old + (1 - _RANGE_MEMORY) * new for old, new in zip(known, seen))
    return low, high


def _bar(width: int, line: str, share: float) -> np.ndarray:
    """The line of figures, and to its right the knob: how much of the full model is spent."""
    bar = np.full((BAR_PX, width, 3), _INK, np.uint8)
    baseline = (BAR_PX + BODY_PX) // 2
    draw_text(bar, line, GAP_PX + 6, baseline, colour=_TEXT)
    label, track = f"knob {share:.0%}", min(120, width // 5)
    left = width - GAP_PX - 6 - track
    if left - text_width(label) - 10 > text_width(line) + 20:
        draw_text(bar, label, left - text_width(label) - 10, baseline, colour=_MUTED)
        top = BAR_PX // 2 - 4
        cv2.rectangle(bar, (left, top), (left + track, top + 8), (60, 64, 74), cv2.FILLED)
        cv2.rectangle(bar, (left, top), (left + max(1, round(track * share)), top + 8), _KNOB, cv2.FILLED)
    return bar
