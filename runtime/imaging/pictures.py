"""A result as pictures: one per task, or all of them beside the photograph. uint8 RGB throughout; cv2 and numpy only.

`task_cells` draws what a Result holds, `panel` puts it on one sheet, `png_bytes` or `jpeg_bytes` makes a file of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..errors import ImageError
from ..tasks import TaskSpec
from .pictures_colour import (
    class_colours,
    depth_colours,
    depth_range_m,
    ink_drawing,
    normals_colours,
    spotlight,
    upscale_classes,
)
from .pictures_layout import Cell, cell_block, fit_cell, fit_inside, flow, resize_picture, sheet
from .pictures_text import chip

if TYPE_CHECKING:
    from ..result import Result

PANEL_CELL_PX = 300  # width of a picture on a panel
SINGLE_PX = (640, 1024)  # the longer side of a single picture is brought between these
SMALLEST_SHEET_PX = 240  # width that a legend needs
_INK_TASKS = ("edge", "boundary", "contour")  # probability tasks that are lines; the others are regions


def task_cell(
    spec: TaskSpec, values: np.ndarray, image_HWC: np.ndarray, *, range_m: tuple[float, float] | None = None
) -> Cell:
    """Draw one task at the size of `image_HWC`.

    Args:
        spec: what the values mean.
        values: as in a Result, showing the same part of the world as the image, at any resolution.
        image_HWC: the photograph, uint8 RGB.
        range_m: for depth, the range of the colours in metres; by default that of the values.
    """
    height, width = image_HWC.shape[:2]
    if spec.kind == "image_classes":
        best = int(np.argmax(values))
        note = f"{class_name(spec, best)} {values[best]:.0%}"
        picture = image_HWC.copy()
        chip(picture, f"{spec.name}: {note}")
        return Cell(picture, spec.name, note)
    if spec.kind == "classes":
        names = tuple(class_name(spec, index) for index in range(spec.channels))
        picture, legend = class_colours(upscale_classes(values, (height, width)), names, spec.palette)
        return Cell(picture, spec.name, _counted(len(legend), "class", "classes"), legend)
    smooth = cv2.resize(np.ascontiguousarray(values, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    if spec.kind == "depth":
        low, high = range_m or depth_range_m(values)
        picture, bar = depth_colours(smooth, (low, high))
        return Cell(picture, spec.name, "near is bright", bar=bar)
    if spec.kind == "normals":
        return Cell(normals_colours(smooth), spec.name, "x red, y green, z blue")
    if any(word in spec.name for word in _INK_TASKS):
        return Cell(ink_drawing(smooth), spec.name)
    return Cell(spotlight(image_HWC, smooth), spec.name)


def task_cells(
    result: Result, image_HWC: np.ndarray, *, range_m: tuple[float, float] | None = None, longest_px: int | None = None
) -> dict[str, Cell]:
    """Draw every task of a result; padding is cut away, so that each picture shows what the photograph shows.

    Args:
        image_HWC: the photograph that the result is of, uint8 RGB.
        range_m: as in `task_cell`.
        longest_px: length of the pictures' longer side; by default that of the photograph, brought to 640..1024.
    """
    image = display_image(image_HWC, longest_px)
    return {
        name: task_cell(result.specs[name], image_part(values, result), image, range_m=range_m)
        for name, values in result.items()
    }


def panel(
    result: Result, image_HWC: np.ndarray, *, title: str = "", subtitle: str = "", columns: int = 3
) -> np.ndarray:
    """The photograph and every task on one sheet; the label of an image-level task is a chip on the photograph."""
    cells = task_cells(result, image_HWC, longest_px=2 * PANEL_CELL_PX)
    labels = [f"{name}: {cell.note}" for name, cell in cells.items() if result.specs[name].kind == "image_classes"]
    dense = [cell for name, cell in cells.items() if result.specs[name].kind != "image_classes"]
    photograph = fit_cell(image_HWC, PANEL_CELL_PX)
    if labels:
        photograph = photograph.copy()
        chip(photograph, ", ".join(labels))
    return sheet(flow([Cell(photograph, "photograph"), *dense], PANEL_CELL_PX, columns), title, subtitle)


def single(cell: Cell) -> np.ndarray:
    """One task on a sheet of its own, with its legend or colour bar."""
    return sheet(cell_block(cell, max(cell.picture_HWC.shape[1], SMALLEST_SHEET_PX)), "")


def image_part(values: np.ndarray, result: Result) -> np.ndarray:
    """The part of a dense output that the original image covers: at network size the padding is cut away."""
    if values.shape[:2] != result.placement.size_hw:
        return values
    return result.placement.crop(values)


def display_image(image_HWC: np.ndarray, longest_px: int | None = None) -> np.ndarray:
    """The photograph at the size that pictures are drawn in."""
    longest = longest_px or min(max(*image_HWC.shape[:2], SINGLE_PX[0]), SINGLE_PX[1])
    return resize_picture(image_HWC, fit_inside(image_HWC.shape[:2], (longest, longest)))


def class_name(spec: TaskSpec, index: int) -> str:
    """The name of a class as people write it, or its number where the task has no names."""
    return spec.classes[index].replace("_", " ") if index < len(spec.classes) else f"class {index}"


def png_bytes(picture_HWC: np.ndarray) -> bytes:
    """The picture as a PNG file.

    Raises:
        ImageError: the picture is too large for a PNG file.
    """
    done, data = cv2.imencode(".png", cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR))
    if not done:
        raise ImageError(
            f"a picture of {picture_HWC.shape[1]} x {picture_HWC.shape[0]} pixels cannot be written as PNG"
        )
    return data.tobytes()


def jpeg_bytes(picture_HWC: np.ndarray, quality: int = 85) -> bytes:
    """The picture as a JPEG file, smaller than a PNG.

    Raises:
        ImageError: the picture is too large for a JPEG file.
    """
    coded = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2BGR)
    try:
        done, data = cv2.imencode(".jpg", coded, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:  # before OpenCV 4.11; later ones say that it was not done
        done, data = False, np.empty(0, np.uint8)
    if not done:
        raise ImageError(
            f"a picture of {picture_HWC.shape[1]} x {picture_HWC.shape[0]} pixels cannot be written as JPEG"
        )
    return data.tobytes()


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
