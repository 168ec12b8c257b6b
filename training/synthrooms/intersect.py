"""Rays against all solids of a scene at once, and against the room around them.

Axes: P solids (boxes first, then cylinders, then balls), N rays, 3 coordinates. Every solid is a unit box, cylinder or
ball in its own frame; `matrix` and `shift` take world points there. Rays need not be unit length: t counts in
multiples of the direction. All in float32 metres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .pieces import Part, Shape

_CHUNK_RAYS = 2048  # at once on a CPU: with the 20-40 solids left after culling, temporaries stay within a 1 MB cache
MISS = float("inf")


@dataclass(frozen=True)
class Solids:
    """Packed solids; see the module docstring."""

    matrix_P33: Tensor
    shift_P3: Tensor
    half_P3: Tensor
    taper_P: Tensor
    centre_P3: Tensor
    radius_P: Tensor  # of a ball around the centre that holds the solid
    counts: tuple[int, int, int]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def subset(self, index_K: Tensor) -> Solids:
        """The solids of an ascending index."""
        boxes = self.counts[0]
        ends = [int((index_K < end).sum()) for end in (boxes, boxes + self.counts[1])]
        counts = (ends[0], ends[1] - ends[0], index_K.numel() - ends[1])
        return Solids(
            self.matrix_P33[index_K],
            self.shift_P3[index_K],
            self.half_P3[index_K],
            self.taper_P[index_K],
            self.centre_P3[index_K],
            self.radius_P[index_K],
            counts,
        )


Keep = Callable[[Solids, Tensor, Tensor], Tensor]  # which solids (P,) rays with these origins and directions may meet


def pack_solids(parts: list[Part], device: torch.device) -> Solids:
    """Pack parts, which must be sorted by shape (as `sort_parts` does)."""
    turn = np.array([part.turn for part in parts]).reshape(-1, 3, 3)
    half = np.array([part.half for part in parts]).reshape(-1, 3)
    centre = np.array([part.centre for part in parts]).reshape(-1, 3)
    matrix = turn.transpose(0, 2, 1) / half[:, :, None]
    shift = -np.einsum("pij,pj->pi", matrix, centre)
    counts = tuple(sum(part.shape == shape for part in parts) for shape in Shape)

    def put(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(device)

    taper = np.array([part.taper for part in parts])
    is_ball = np.array([part.shape == Shape.BALL for part in parts])
    widest = half * (1 + np.abs(taper))[:, None]
    radius = np.where(is_ball, half.max(axis=1), np.linalg.norm(widest, axis=1))
    return Solids(
        put(matrix), put(shift), put(half), put(taper), put(centre), put(radius), (counts[0], counts[1], counts[2])
    )


def _to_frames(matrix_P33: Tensor, shift_P3: Tensor | None, vectors_3N: Tensor) -> Tensor:
    """Vectors in the frames of all solids: (3, P, N)."""
    rows = matrix_P33.transpose(0, 1).reshape(-1, 3)
    # 1e-9 keeps exact zeros, whose inverse times zero is NaN, out of axis-parallel directions.
    bias = torch.full_like(rows[:, :1], 1e-9) if shift_P3 is None else shift_P3.t().reshape(-1, 1)
    # Not matmul on a GPU: a caller may have allowed TF32, whose 10 bits are centimetres here.
    if vectors_3N.is_cuda:
        flat = torch.addcmul(bias, rows[:, 0:1], vectors_3N[0:1])
        flat = torch.addcmul(flat, rows[:, 1:2], vectors_3N[1:2])
        flat = torch.addcmul(flat, rows[:, 2:3], vectors_3N[2:3])
    else:
        flat = torch.addmm(bias, rows, vectors_3N)
    return flat.view(3, matrix_P33.shape[0], -1)


def normalize(vectors_3N: Tensor) -> Tensor:
    """Unit vectors; several times faster than `functional.normalize` along the first axis."""
    x, y, z = vectors_3N
    return vectors_3N * (x * x + y * y + z * z).clamp_min(1e-20).rsqrt()


def _enter_boxes(origin: Tensor, direction: Tensor) -> Tensor:
    inverse = direction.reciprocal_()
    centre = origin * inverse
    reach = inverse.abs_()
    near = (centre + reach).neg_()
    far = reach - centre
    entry = torch.maximum(torch.maximum(near[0], near[1]), near[2])
    leave = torch.minimum(torch.minimum(far[0], far[1]), far[2])
    return entry.masked_fill_((entry >= leave) | (entry <= 0), MISS)


def _enter_cylinders(origin: Tensor, direction: Tensor, taper: Tensor) -> Tensor:
    ox, oy, oz = origin
    dx, dy, dz = direction
    radius, slope = 1 + taper * oy, taper * dy
    a = dx * dx + dz * dz - slope * slope
    b = ox * dx + oz * dz - slope * radius
    c = ox * ox + oz * oz - radius * radius
    root = b * b - a * c
    side = (-b - root.clamp_min(0).sqrt_()) / a
    valid = (root > 0) & ((oy + side * dy).abs_() <= 1) & (side > 0)
    side.masked_fill_(~valid, MISS)
    cap = (-oy - dy.sign()) / dy
    x, z, limit = ox + cap * dx, oz + cap * dz, 1 - taper * dy.sign()
    inside = (x * x + z * z <= limit * limit) & (cap > 0)
    return torch.minimum(side, cap.masked_fill_(~inside, MISS))


def _enter_balls(origin: Tensor, direction: Tensor) -> Tensor:
    a = direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2
    b = origin[0] * direction[0] + origin[1] * direction[1] + origin[2] * direction[2]
    c = origin[0] ** 2 + origin[1] ** 2 + origin[2] ** 2 - 1
    root = b * b - a * c
    t = (-b - root.clamp_min(0).sqrt_()) / a
    return t.masked_fill_((root <= 0) | (t <= 0), MISS)


def _enter_all(solids: Solids, origin_3N: Tensor, direction_3N: Tensor) -> Tensor:
    """t (P, N) where each ray enters each solid, `MISS` where it does not."""
    boxes, cylinders, _ = solids.counts
    slices = (slice(0, boxes), slice(boxes, boxes + cylinders), slice(boxes + cylinders, None))
    found = []
    for shape, part in zip(Shape, slices, strict=True):
        if solids.counts[shape] == 0:
            continue
        matrix = solids.matrix_P33[part]
        origin = _to_frames(matrix, solids.shift_P3[part], origin_3N)
        direction = _to_frames(matrix, None, direction_3N)
        if shape == Shape.BOX:
            found.append(_enter_boxes(origin, direction))
        elif shape == Shape.CYLINDER:
            found.append(_enter_cylinders(origin, direction, solids.taper_P[part, None]))
        else:
            found.append(_enter_balls(origin, direction))
    return torch.cat(found) if len(found) > 1 else found[0]


def _chunks(
    solids: Solids, origin_3N: Tensor, direction_3N: Tensor, keep: Keep | None
) -> Iterator[tuple[Solids, Tensor | None, Tensor, Tensor]]:
    """Slices of the rays, each with the solids it may meet and their index (None: all of them).

    One of origin and direction may be a single column for all rays. A GPU takes all rays at once, uncut.
    """
    count = max(origin_3N.shape[1], direction_3N.shape[1])
    step = count if direction_3N.is_cuda else _CHUNK_RAYS
    for start in range(0, count, step):
        part = slice(start, start + step)
        origin = origin_3N if origin_3N.shape[1] == 1 else origin_3N[:, part]
        direction = direction_3N if direction_3N.shape[1] == 1 else direction_3N[:, part]
        if keep is None or direction_3N.is_cuda:
            yield solids, None, origin, direction
        else:
            kept = keep(solids, origin, direction).nonzero()[:, 0]
            yield solids.subset(kept), kept, origin, direction


def first_hit(
    solids: Solids, origin_3N: Tensor, direction_3N: Tensor, keep: Keep | None = None
) -> tuple[Tensor, Tensor]:
    """Smallest t and index of the solid for each ray: (N,) float32 (`MISS` if none) and (N,) int64."""
    times, indices = [], []
    for some, kept, origin, direction in _chunks(solids, origin_3N, direction_3N, keep):
        if some.total == 0:
            times.append(torch.full_like(direction[0], MISS))
            indices.append(torch.zeros_like(direction[0], dtype=torch.int64))
            continue
        t, index = _enter_all(some, origin, direction).min(dim=0)
        times.append(t)
        indices.append(index if kept is None else kept[index])
    return torch.cat(times), torch.cat(indices)


def nearest(solids: Solids, origin_3N: Tensor, direction_3N: Tensor, keep: Keep | None = None) -> Tensor:
    """Smallest t of each ray alone, (N,): enough for shadows, and cheaper than `first_hit`."""
    if origin_3N.shape[1] == 0 or direction_3N.shape[1] == 0:
        return origin_3N.new_empty(0)
    times = []
    for some, _, origin, direction in _chunks(solids, origin_3N, direction_3N, keep):
        rays = origin if direction.shape[1] == 1 else direction
        times.append(_enter_all(some, origin, direction).amin(dim=0) if some.total else torch.full_like(rays[0], MISS))
    return torch.cat(times)


def leave_room(size_3: Tensor, origin_3N: Tensor, direction_3N: Tensor) -> tuple[Tensor, Tensor]:
    """t (N,) and face (N,) int64 where rays from inside the room meet its shell."""
    # Rays parallel to a pair of walls meet the far one of them, far away.
    step_3N = torch.where(direction_3N.abs() < 1e-9, torch.full_like(direction_3N, 1e-9), direction_3N)
    forward = step_3N > 0
    t_3N = (torch.where(forward, size_3[:, None], torch.zeros_like(size_3[:, None])) - origin_3N) / step_3N
    t, axis = t_3N.min(dim=0)
    return t, axis * 2 + forward.gather(0, axis[None])[0]
