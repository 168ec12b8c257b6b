"""Cylinders from one point to another: limbs, bars, branches."""

from __future__ import annotations

import numpy as np

from .materials import Material
from .pieces import Part, Piece, Shape, Vec3


def rod(piece: Piece, start: Vec3, end: Vec3, radius: float, material: Material, *, taper: float = 0.0) -> None:
    """Add a cylinder whose axis goes from `start` to `end`; `taper` > 0 makes it wider at the end, |taper| < 1."""
    a, b = np.array(start, dtype=np.float64), np.array(end, dtype=np.float64)
    length = float(np.linalg.norm(b - a))
    if length < 1e-6:
        return
    along = (b - a) / length
    # Any direction that is not parallel to the axis gives the other two.
    other = np.array([1.0, 0.0, 0.0]) if abs(along[0]) < 0.9 else np.array([0.0, 0.0, 1.0])
    across = np.cross(other, along)
    across /= np.linalg.norm(across)
    turn = np.stack([across, along, np.cross(across, along)], axis=1)
    piece.parts.append(Part(Shape.CYLINDER, (a + b) / 2, (radius, length / 2, radius), turn, material, taper))
