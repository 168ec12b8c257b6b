"""Pictures of one thing: where it stands, and from where it is seen, as people photograph people, pets and vehicles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .camera import Camera, pixel_grid, pixel_rays
from .dice import Dice
from .intersect import first_hit, leave_room, pack_solids
from .layout import Plan
from .living import animal, person
from .outdoors import bush, flower, rock
from .packing import sort_parts
from .pieces import Group, Piece, height_of
from .vehicles import two_wheeler
from .viewpoint import look_at

_GRID_HW = (10, 10)
_CANDIDATES = 10
_WANTED_SHARE = (0.12, 0.65)  # of the picture that the subject fills


@dataclass(frozen=True)
class Subject:
    """`aim_share` 0..1 of its height is looked at, `spread_m` of it fills the height of the picture."""

    piece: Piece
    width_m: float
    height_m: float
    aim_share: float
    spread_m: float


def draw_subject(dice: Dice) -> Subject:
    kind = dice.choice((person, animal, two_wheeler, flower, bush, rock), (0.36, 0.22, 0.26, 0.1, 0.03, 0.03))
    piece = kind(dice)
    tall = height_of(piece)
    if kind is person:
        if dice.chance(0.65):  # head and shoulders
            return Subject(piece, 0.7, tall, dice.uniform(0.82, 0.93), dice.uniform(0.45, 0.95))
        return Subject(piece, 0.7, tall, dice.uniform(0.45, 0.6), tall * dice.uniform(1.05, 1.7))
    if kind is animal and dice.chance(0.5):
        return Subject(piece, 1.0, tall, dice.uniform(0.7, 0.9), tall * dice.uniform(0.5, 0.9))
    if kind is flower:
        return Subject(piece, 0.4, tall, dice.uniform(0.8, 1.0), tall * dice.uniform(0.4, 0.9))
    wide = 1.9 if kind is two_wheeler else 1.0
    return Subject(piece, wide, tall, dice.uniform(0.4, 0.6), tall * dice.uniform(0.95, 1.7))


def place_subject(dice: Dice, plan: Plan, subject: Subject) -> Group | None:
    """Stand it in an empty plan, near the middle; the group as it stands, None where it does not fit."""
    wide = min(subject.width_m, plan.width * 0.8, plan.length * 0.8)
    group = Group(wide, min(wide, 0.7), subject.height_m, [subject.piece])
    middle = (plan.width / 2, 0.0, plan.length / 2)
    return plan.placed[-1] if plan.in_the_room(dice, group, near=middle, spread_m=0.12 * plan.length) else None


def _view(dice: Dice, plan: Plan, subject: Subject, at: tuple[float, float], facing_rad: float) -> Camera:
    fov = math.radians(dice.uniform(28, 62))
    reach = subject.spread_m / 2 / math.tan(fov / 2)
    aim = (at[0], subject.height_m * subject.aim_share, at[1])
    yaw, rise = facing_rad + dice.normal() * 0.6, math.radians(dice.uniform(-8, 22))
    x = aim[0] + math.sin(yaw) * math.cos(rise) * reach
    z = aim[2] + math.cos(yaw) * math.cos(rise) * reach
    x, z = min(max(x, 0.15), plan.width - 0.15), min(max(z, 0.15), plan.length - 0.15)
    y = min(max(aim[1] + math.sin(rise) * reach, 0.15), plan.height - 0.3)
    look, pitch = look_at((x, y, z), aim)
    # Seldom right in the middle: a third of the picture's half to either side.
    off = dice.uniform(-0.33, 0.33) * fov / 2
    roll = math.radians(dice.normal() * 2.5)
    return Camera((x, y, z), look + off, pitch + dice.normal() * 0.04, roll, fov)


def subject_camera(dice: Dice, plan: Plan, subject: Subject, placed: Group) -> tuple[Camera, float]:
    """The camera, of some candidates the one that sees the subject best, and its distance from it in metres."""
    parts, owners = sort_parts(plan.pieces)
    solids, owner_of = pack_solids(parts, torch.device("cpu")), torch.tensor(owners)
    number = plan.pieces.index(placed.pieces[0]) + 1
    middle = np.mean([part.centre for part in placed.pieces[0].parts], axis=0)
    facing = _front(subject.piece, placed.pieces[0])
    cameras = [_view(dice, plan, subject, (float(middle[0]), float(middle[2])), facing) for _ in range(_CANDIDATES)]
    best, distance_m, best_score = cameras[0], 1.0, -math.inf
    x_px, y_px = pixel_grid(_GRID_HW, torch.device("cpu"))
    size = torch.tensor([plan.width, plan.height, plan.length])
    for camera in cameras:
        rays = pixel_rays(camera, x_px, y_px, _GRID_HW)
        origin = torch.tensor(camera.position, dtype=torch.float32)[:, None]
        t, index = first_hit(solids, origin, rays)
        t_room, _ = leave_room(size, origin, rays)
        seen = (t < t_room) & (owner_of[index] == number)
        share = float(seen.float().mean())
        blocked = float((torch.minimum(t, t_room) < 0.2).float().mean())
        low, high = _WANTED_SHARE
        score = min(share, low) / low - max(share - high, 0.0) * 3 - 4 * blocked + 0.3 * dice.unit()
        if score > best_score:
            near = float(t[seen].median()) if bool(seen.any()) else float(t_room.median())
            best, distance_m, best_score = camera, near, score
    return best, distance_m


def _front(drawn: Piece, placed: Piece) -> float:
    """The yaw, in radians, in which a piece looks that was drawn looking along +z: parts turn with it."""
    upright = next((index for index, part in enumerate(drawn.parts) if np.allclose(part.turn, np.eye(3))), None)
    if upright is None:  # a rock has no front
        return 0.0
    x, _, z = placed.parts[upright].turn[:, 2]
    return math.atan2(x, z)
