"""Class ids as masks: run lengths in COCO's order, and polygons with holes. Axes: H height, W width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np


def run_lengths(ids_HW: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Every class that occurs as run lengths.

    The order is COCO's: down the columns, the first column first; `counts` alternates between pixels outside and
    inside, and begins with those outside (0 where the first pixel is inside). `bbox_xywh` and `area_px` are in pixels.
    """
    height, width = ids_HW.shape
    flat = ids_HW.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    found = []
    for class_id in np.unique(flat[starts]).tolist():
        mine = flat[starts] == class_id
        inside_from, inside_to = starts[mine], ends[mine]
        counts = np.empty(2 * len(inside_from), np.int64)
        counts[0::2] = inside_from - np.append(0, inside_to[:-1])
        counts[1::2] = inside_to - inside_from
        rest = [flat.size - int(inside_to[-1])] if inside_to[-1] < flat.size else []
        found.append(
            {
                **_named(class_id, classes),
                "area_px": int((inside_to - inside_from).sum()),
                "bbox_xywh": _bounding_box(ids_HW == class_id),
                "counts": counts.tolist() + rest,
            }
        )
    return {"size_hw": [height, width], "order": "columns", "segments": found}


def polygons(ids_HW: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Every class that occurs as outlines.

    A polygon runs through the centres of its border's pixels, [x, y] with x to the right and y down; areas that are
    one pixel thin have fewer than three points. `holes` are outlines of what is missing inside, drawn through the
    pixels around the gap.
    """
    height, width = ids_HW.shape
    found = [
        {**_named(class_id, classes), "polygons": _outlines(ids_HW == class_id)}
        for class_id in np.unique(ids_HW).tolist()
    ]
    return {"size_hw": [height, width], "segments": found}


def _outlines(mask_HW: np.ndarray) -> list[dict[str, Any]]:
    contours, hierarchy = cv2.findContours(mask_HW.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    points = [contour.reshape(-1, 2).tolist() for contour in contours]
    parents = [] if hierarchy is None else hierarchy.reshape(-1, 4)[:, 3].tolist()  # of an outer one: -1
    outlines: dict[int, dict[str, Any]] = {
        index: {"outer": points[index], "holes": []} for index, parent in enumerate(parents) if parent < 0
    }
    for index, parent in enumerate(parents):
        if parent >= 0:
            outlines[parent]["holes"].append(points[index])
    return list(outlines.values())


def _named(class_id: int, classes: Sequence[str]) -> dict[str, Any]:
    return {"class_id": class_id, "class": classes[class_id] if class_id < len(classes) else str(class_id)}


def _bounding_box(mask_HW: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
