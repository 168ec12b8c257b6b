"""Where the camera stands: random candidates, scored by a coarse grid of rays through each."""

from __future__ import annotations

import math

import numpy as np
import torch

from .camera import Camera, pixel_grid, pixel_rays
from .dice import Dice
from .intersect import first_hit, leave_room, pack_solids
from .layout import Plan
from .packing import sort_parts
from .pieces import Vec3

_GRID_HW = (10, 12)
_CANDIDATES = 9


def look_at(position: Vec3, target: Vec3) -> tuple[float, float]:
    """Yaw and pitch, in radians, of the direction from `position` to `target`."""
    dx, dy, dz = (b - a for a, b in zip(position, target, strict=True))
    return math.atan2(-dx, -dz), math.atan2(dy, math.hypot(dx, dz))


def _wide_view(dice: Dice, plan: Plan, room_type: str) -> Camera:
    """Standing or sitting height, at the edge of the room, looking across it."""
    margin, x, z = 0.3, plan.width / 2, plan.length / 2
    for _ in range(10):
        x, z = dice.uniform(margin, plan.width - margin), dice.uniform(margin, plan.length - margin)
        if room_type == "corridor":
            z = dice.choice((0.5, plan.length - 0.5)) + dice.uniform(-0.2, 0.2)
        if not any(a - 0.2 < x < b + 0.2 and c - 0.2 < z < d + 0.2 for a, b, c, d in plan.tall):
            break
    y = dice.uniform(0.9, 1.8)
    target = (plan.width / 2 + dice.normal() * 0.6, 1.0, plan.length / 2 + dice.normal() * 0.6)
    if plan.placed and dice.chance(0.7):
        # The first pieces placed are those that make the room what it is: a bed, a sofa, a counter.
        centre = dice.choice(plan.placed[: dice.integer(1, 4)]).pieces[0].parts[0].centre
        target = (float(centre[0]), 1.0, float(centre[2]))
    if room_type == "corridor":
        target = (plan.width / 2, 1.0, 0.0 if z > plan.length / 2 else plan.length)
    yaw, _ = look_at((x, y, z), target)
    return Camera(
        (x, y, z),
        yaw + dice.normal() * 0.15,
        math.radians(min(max(dice.normal() * 8.0 - 8.0, -25.0), 10.0)),
        math.radians(max(min(dice.normal() * 2.0, 6.0), -6.0)),
        math.radians(dice.uniform(45, 75)),
    )


def _close_view(dice: Dice, plan: Plan, focus: Vec3) -> Camera:
    """Half a metre to a metre and a half from a table top, bed or shelf, looking at what stands there."""
    aim = (focus[0] + dice.uniform(-0.15, 0.15), focus[1] + 0.08, focus[2] + dice.uniform(-0.15, 0.15))
    to_middle, _ = look_at(aim, (plan.width / 2, aim[1], plan.length / 2))
    yaw, rise, reach = to_middle + dice.normal() * 0.7, math.radians(dice.uniform(8, 42)), dice.log_uniform(0.5, 1.5)
    x = aim[0] - math.sin(yaw) * math.cos(rise) * reach
    z = aim[2] - math.cos(yaw) * math.cos(rise) * reach
    x, z = min(max(x, 0.15), plan.width - 0.15), min(max(z, 0.15), plan.length - 0.15)
    y = min(max(aim[1] + math.sin(rise) * reach, 0.25), plan.height - 0.3)
    look, pitch = look_at((x, y, z), aim)
    roll = math.radians(dice.normal() * 3.0)
    return Camera(
        (x, y, z), look + dice.normal() * 0.1, pitch + dice.normal() * 0.06, roll, math.radians(dice.uniform(40, 65))
    )


def _score(cameras: list[Camera], plan: Plan, nearest_m: float) -> np.ndarray:
    """How much each candidate sees: many pieces, nothing filling the view from too near."""
    parts, owners = sort_parts(plan.pieces)
    solids = pack_solids(parts, torch.device("cpu"))
    x_px, y_px = pixel_grid(_GRID_HW, torch.device("cpu"))
    rays = torch.cat([pixel_rays(camera, x_px, y_px, _GRID_HW) for camera in cameras], dim=1)
    origin = torch.tensor([camera.position for camera in cameras]).t().repeat_interleave(x_px.numel(), dim=1)
    t, index = first_hit(solids, origin, rays)
    size = torch.tensor([plan.width, plan.height, plan.length])
    t_room, _ = leave_room(size, origin, rays)
    owner = torch.where(t < t_room, torch.tensor(owners)[index], 0).view(len(cameras), -1).numpy()
    depth = torch.minimum(t, t_room).view(len(cameras), -1).numpy()
    scores = np.empty(len(cameras))
    for row in range(len(cameras)):
        seen, counts = np.unique(owner[row], return_counts=True)
        biggest = counts[seen > 0].max(initial=0) / owner.shape[1]
        blocked = (depth[row] < nearest_m).mean()
        scores[row] = 1.5 * len(seen) + 2 * np.log(np.median(depth[row])) - 40 * blocked - 8 * max(biggest - 0.5, 0)
    return scores


def choose_camera(dice: Dice, plan: Plan, room_type: str, *, close_up: bool) -> Camera:
    tops = [surface.centre for group in plan.placed for surface in group.surfaces]
    close_up = close_up and bool(tops)
    cameras = []
    for _ in range(_CANDIDATES):
        cameras.append(_close_view(dice, plan, dice.choice(tops)) if close_up else _wide_view(dice, plan, room_type))
    scores = _score(cameras, plan, 0.3 if close_up else 0.75)
    # One random pick among the better ones: always the best would make all pictures equally crowded.
    order = np.argsort(-scores)
    return cameras[int(order[dice.integer(0, 1)])] if scores[order[1]] > 0 else cameras[int(order[0])]
