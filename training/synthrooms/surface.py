"""What primary rays meet: depth, surface, normal and coordinates on it.

Axes: N rays, P solids, S surfaces (solids, then the six room faces), 3 coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .culling import seen_from_one_point, tile_order
from .intersect import first_hit, leave_room, normalize
from .packing import PackedScene
from .pieces import Shape


@dataclass(frozen=True)
class Hits:
    """Per ray: t (= depth in metres for camera rays), surface id, face id (unique per smooth face), and geometry."""

    depth_N: Tensor
    surface_N: Tensor
    face_N: Tensor
    point_3N: Tensor
    normal_3N: Tensor
    unit_3N: Tensor  # -1..1 in the solid's own frame; in metres for the room
    half_3N: Tensor  # what turns `unit` into metres
    axis_N: Tensor  # which axis of that frame the face is perpendicular to; 3 for curved faces


def _solid_faces(packed: PackedScene, index_N: Tensor, unit_3N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient (3, N) in the unit frame, face number 0..6 and its axis, by the shape of each solid."""
    boxes, cylinders, _ = packed.solids.counts
    axis = unit_3N.abs().argmax(dim=0)
    signs = torch.sign(unit_3N)
    box = torch.zeros_like(unit_3N).scatter_(0, axis[None], signs.gather(0, axis[None]))
    taper = packed.solids.taper_P[index_N]
    radius = 1 + taper * unit_3N[1]
    off_side = (torch.hypot(unit_3N[0], unit_3N[2]) / radius - 1).abs()
    is_cap = (unit_3N[1].abs() - 1).abs() < off_side
    zero = torch.zeros_like(taper)
    cap = torch.stack([zero, signs[1], zero])
    side = torch.stack([unit_3N[0], -taper * radius, unit_3N[2]])
    kind = (index_N >= boxes).long() + (index_N >= boxes + cylinders).long()
    cylinder = torch.where(is_cap, cap, side)
    gradient = torch.where(kind == Shape.BOX, box, torch.where(kind == Shape.CYLINDER, cylinder, unit_3N))
    flat_face = axis * 2 + (signs.gather(0, axis[None])[0] > 0)
    cap_face = torch.where(is_cap, 2 + (signs[1] > 0).long(), 6)
    face = torch.where(kind == Shape.BOX, flat_face, torch.where(kind == Shape.CYLINDER, cap_face, 6))
    axis = torch.where(kind == Shape.BOX, axis, torch.where(face < 6, 1, 3))
    return gradient, face, axis


def trace(packed: PackedScene, origin_31: Tensor, direction_3N: Tensor, size_hw: tuple[int, int]) -> Hits:
    """First surface along each ray of a camera at `origin`, rays row by row of an image `size_hw`."""
    order = tile_order(size_hw, direction_3N.device)
    t_ordered, index_ordered = first_hit(packed.solids, origin_31, direction_3N[:, order], seen_from_one_point)
    t_solid = torch.empty_like(t_ordered).index_put_((order,), t_ordered)
    index = torch.empty_like(index_ordered).index_put_((order,), index_ordered)
    t_room, room_face = leave_room(packed.size_3, origin_31, direction_3N)
    in_room = t_room <= t_solid
    depth = torch.where(in_room, t_room, t_solid)
    point = origin_31 + depth * direction_3N
    matrix = packed.solids.matrix_P33[index]
    unit = (matrix * point.t()[:, None]).sum(2).t() + packed.solids.shift_P3[index].t()
    gradient, face, axis = _solid_faces(packed, index, unit)
    normal = (matrix * gradient.t()[:, :, None]).sum(1).t()
    room_axis = room_face // 2
    inward = torch.zeros_like(point).scatter_(0, room_axis[None], (1.0 - 2.0 * (room_face % 2))[None])
    normal = torch.where(in_room, inward, normalize(normal))
    # A grazing hit on a curved side may round to a normal that points away by a hair.
    away = (normal * direction_3N).sum(0) > 0
    normal = torch.where(away & ~in_room, -normal, normal)
    total = packed.solids.total
    surface = torch.where(in_room, total + room_face, index)
    face = torch.where(in_room, total * 7 + room_face, index * 7 + face)
    unit = torch.where(in_room, point, unit)
    half = torch.where(in_room, torch.ones_like(unit), packed.solids.half_P3[index].t())
    axis = torch.where(in_room, room_axis, axis)
    return Hits(depth, surface, face, point, normal, unit, half, axis)
