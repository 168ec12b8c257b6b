"""Puts groups into a room so that they neither overlap nor stand in front of doors.

Walls by number: 0 is z=0, 1 is x=0, 2 is z=length, 3 is x=width; a group against wall k is turned by k quarter turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .dice import Dice
from .pieces import Group, Piece, Vec3

Rect = tuple[float, float, float, float]  # x low, x high, z low, z high
Span = tuple[float, float, float, float]  # along the wall low, high, y low, y high


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


@dataclass
class Plan:
    """A room being furnished."""

    width: float
    height: float
    length: float
    pieces: list[Piece] = field(default_factory=list)
    occupied: list[Rect] = field(default_factory=list)
    tall: list[Rect] = field(default_factory=list)  # no camera may stand here
    spans: tuple[list[Span], ...] = field(default_factory=lambda: ([], [], [], []))
    placed: list[Group] = field(default_factory=list)

    def wall_length(self, wall: int) -> float:
        return self.width if wall % 2 == 0 else self.length

    def on_wall(self, wall: int, along: float, out: float) -> tuple[float, float, float]:
        """x, z and yaw of a point `along` a wall and `out` of it into the room."""
        yaw = wall * math.pi / 2
        return ((along, out), (out, along), (along, self.length - out), (self.width - out, along))[wall] + (yaw,)

    def _rect(self, x: float, z: float, yaw: float, width: float, depth: float) -> Rect:
        c, s = abs(math.cos(yaw)), abs(math.sin(yaw))
        half_x, half_z = (c * width + s * depth) / 2, (s * width + c * depth) / 2
        return (x - half_x, x + half_x, z - half_z, z + half_z)

    def _free(self, rect: Rect) -> bool:
        inside = (
            rect[0] >= -0.02 and rect[1] <= self.width + 0.02 and rect[2] >= -0.02 and rect[3] <= self.length + 0.02
        )
        return inside and not any(_overlap(rect, other) for other in self.occupied)

    def _put(self, group: Group, x: float, z: float, yaw: float, rect: Rect) -> None:
        moved = group.moved(x, 0, z, yaw)
        self.pieces += moved.pieces
        self.placed.append(moved)
        self.occupied.append(rect)
        self.tall.append(rect)

    def against_wall(
        self, dice: Dice, group: Group, walls: tuple[int, ...] = (0, 1, 2, 3), gap_m: float = 0.02
    ) -> bool:
        """Stand a group with its back to a wall; False if no place was found."""
        for _ in range(12):
            wall = dice.choice(walls)
            slack = self.wall_length(wall) - group.width
            if slack < 0:
                continue
            along = group.width / 2 + dice.choice((0.01, slack - 0.01, slack * dice.unit(), slack / 2))
            x, z, yaw = self.on_wall(wall, along, group.depth / 2 + gap_m + dice.choice((0.0, 0.0, 0.05)))
            rect = self._rect(x, z, yaw, group.width, group.depth)
            span = (along - group.width / 2, along + group.width / 2, 0.0, group.height)
            if self._free(rect) and not any(_overlap(span, other) for other in self.spans[wall]):
                self.spans[wall].append(span)
                self._put(group, x, z, yaw, rect)
                return True
        return False

    def in_the_room(self, dice: Dice, group: Group, *, near: Vec3 | None = None, spread_m: float = 9.0) -> bool:
        """Stand a group anywhere, if wanted near a point, turned a little."""
        yaw = dice.integer(0, 3) * math.pi / 2
        tilt = dice.uniform(-0.15, 0.15)
        for _ in range(12):
            x, z = dice.uniform(0, self.width), dice.uniform(0, self.length)
            if near is not None:
                x, z = near[0] + dice.normal() * spread_m, near[2] + dice.normal() * spread_m
            rect = self._rect(x, z, yaw, group.width * 1.1, group.depth * 1.1)
            if self._free(rect):
                self._put(group, x, z, yaw + tilt, rect)
                return True
        return False

    def hang(
        self, dice: Dice, piece: Piece, width: float, low: float, high: float, *, wall: int | None = None
    ) -> tuple[int, float] | None:
        """Fix a flat piece (back at its origin) to a wall between heights `low` and `high`; where, or None."""
        for _ in range(8):
            chosen = dice.integer(0, 3) if wall is None else wall
            slack = self.wall_length(chosen) - width - 0.2
            if slack < 0:
                continue
            along = 0.1 + width / 2 + dice.unit() * slack
            span = (along - width / 2 - 0.04, along + width / 2 + 0.04, low, high)
            if any(_overlap(span, other) for other in self.spans[chosen]):
                continue
            x, z, yaw = self.on_wall(chosen, along, 0.0)
            self.spans[chosen].append(span)
            self.pieces.append(piece.moved(x, 0, z, yaw))
            return (chosen, along)
        return None

    def keep_clear(self, wall: int, along: float, width: float, out_m: float) -> None:
        """Leave the floor in front of a door free."""
        x, z, yaw = self.on_wall(wall, along, out_m / 2)
        self.occupied.append(self._rect(x, z, yaw, width, out_m))
