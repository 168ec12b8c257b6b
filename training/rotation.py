"""Pictures and labels turned in their plane, as a camera that rolls about its optical axis shows them.

A roll about the centre of the frame keeps every distance along the axis, so depth stays; normals turn with the picture.
OpenCV does the warp: the runtime depends on it anyway. A test holds it against kornia's.

Axes: H height, W width.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["rotated", "turned_normals"]


def rotated(array: np.ndarray, angle_deg: float, outside: int | tuple[int, ...], *, smooth: bool = False) -> np.ndarray:
    """The content turned counter-clockwise about the centre of the frame, which keeps its size.

    Args:
        array: [H,W] or [H,W,C], of uint8 or float32.
        outside: what the corners get that show nothing of the frame; a number for each channel if it has some.
        smooth: interpolate linearly (a picture); else take the nearest value (labels).
    """
    height, width = array.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    filled = outside if isinstance(outside, tuple) else (outside,) * 4
    return cv2.warpAffine(
        np.ascontiguousarray(array),
        turn,
        (width, height),
        flags=how,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=filled,
    )


def turned_normals(normals_HW3: np.ndarray, angle_deg: float) -> np.ndarray:
    """Normals (x right, y up, z towards the viewer) of a picture that was turned counter-clockwise; zero stays zero."""
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
    return normals_HW3 @ turn.T
