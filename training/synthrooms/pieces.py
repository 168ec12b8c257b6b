"""Solids and the pieces built of them.

World axes: x right, y up, z towards the viewer of the plan; metres. A piece stands on its own origin, its back
towards -z and its front towards +z; `yaw_rad` turns it about y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from .materials import Material

Vec3 = tuple[float, float, float]


class Shape(IntEnum):
    BOX = 0
    CYLINDER = 1  # along its own y, tapered: radius 1 + taper * y in its unit frame
    BALL = 2  # an ellipsoid


def rotation(yaw_rad: float = 0.0, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> np.ndarray:
    """(3, 3) matrix of turning about z, then x, then y."""
    cy, sy = math.cos(yaw_rad), math.sin(yaw_rad)
    cx, sx = math.cos(pitch_rad), math.sin(pitch_rad)
    cz, sz = math.cos(roll_rad), math.sin(roll_rad)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


@dataclass(frozen=True)
class Part:
    """One solid: `half` are its half extents along its own axes, the columns of `turn`."""

    shape: Shape
    centre: np.ndarray
    half: Vec3
    turn: np.ndarray
    material: Material
    taper: float = 0.0
    casts_shadow: bool = True


@dataclass
class Piece:
    """One labelled instance: a table, a cup, a door."""

    label: str
    parts: list[Part] = field(default_factory=list)

    def _add(
        self, shape: Shape, centre: Vec3, half: Vec3, material: Material, turn: np.ndarray | None, **fields: float
    ) -> None:
        if turn is None:
            turn = np.eye(3)
        self.parts.append(Part(shape, np.array(centre, dtype=np.float64), half, turn, material, **fields))  # type: ignore[arg-type]

    def box(
        self, centre: Vec3, size: Vec3, material: Material, *, turn: np.ndarray | None = None, casts_shadow: bool = True
    ) -> None:
        """A cuboid with full edge lengths `size`."""
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        self._add(Shape.BOX, centre, half, material, turn, casts_shadow=casts_shadow)

    def cylinder(
        self,
        centre: Vec3,
        radius: float,
        height: float,
        material: Material,
        *,
        taper: float = 0.0,
        turn: np.ndarray | None = None,
    ) -> None:
        """A cylinder; `taper` > 0 makes it wider at the top, |taper| < 1."""
        self._add(Shape.CYLINDER, centre, (radius, height / 2, radius), material, turn, taper=taper)

    def ball(self, centre: Vec3, radii: Vec3, material: Material, *, turn: np.ndarray | None = None) -> None:
        self._add(Shape.BALL, centre, radii, material, turn)

    def moved(self, x: float, y: float, z: float, yaw_rad: float = 0.0) -> Piece:
        """The same piece turned about its origin, then shifted."""
        turn, shift = rotation(yaw_rad), np.array([x, y, z])
        parts = [replace(part, centre=turn @ part.centre + shift, turn=turn @ part.turn) for part in self.parts]
        return Piece(self.label, parts)


@dataclass(frozen=True)
class Surface:
    """A horizontal top that things can stand on, in the frame of its group."""

    centre: Vec3
    width: float
    depth: float


@dataclass
class Group:
    """Pieces placed together: common footprint (width x depth, back at -z), height, and tops to stand things on."""

    width: float
    depth: float
    height: float
    pieces: list[Piece] = field(default_factory=list)
    surfaces: list[Surface] = field(default_factory=list)

    def moved(self, x: float, y: float, z: float, yaw_rad: float) -> Group:
        turn = rotation(yaw_rad)

        def move(surface: Surface) -> Surface:
            centre = turn @ np.array(surface.centre) + np.array([x, y, z])
            return replace(surface, centre=(float(centre[0]), float(centre[1]), float(centre[2])))

        pieces = [piece.moved(x, y, z, yaw_rad) for piece in self.pieces]
        return Group(self.width, self.depth, self.height, pieces, [move(surface) for surface in self.surfaces])


def height_of(piece: Piece) -> float:
    """The top of a piece standing on its origin, in metres; of curved parts that of the box around them."""
    return max(float(part.centre[1] + np.abs(part.turn[1]) @ np.array(part.half)) for part in piece.parts)


def standing(piece: Piece, width: float, depth: float) -> Group:
    """A piece alone, to be placed on a floor."""
    return Group(width, depth, height_of(piece), [piece])
