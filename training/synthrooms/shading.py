"""Light on surfaces: lamps, windows and sun with soft shadows, ambient light with occlusion, gloss.

Axes: N pixels (= H*W, row by row), L lights, 3 coordinates or colour channels. All light is linear.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .culling import tile_order, towards, within
from .intersect import leave_room, nearest, normalize
from .packing import PackedScene
from .scene import ANY_FACE, Light, Scene, Sun
from .surface import Hits
from .textures import COLUMNS, Patch, albedo

_GLOSS, _SHININESS, _EMISSION = (COLUMNS.index(name) for name in ("gloss", "shininess", "emission"))
_OCCLUSION_M = 1.2  # how far surroundings darken ambient light
_OFFSET_M = 2e-3  # start of secondary rays above the surface
_BLOCK = 4  # pixels per side that share one set of 16 stratified light samples
_SHADOWED_LIGHTS = 2  # the strongest; further ones are weak enough to do without


def _strata(size_hw: tuple[int, int], jitter_2N: Tensor, salt: int) -> Tensor:
    """Two numbers in 0..1 per pixel, (2, N), stratified over every 4x4 block of pixels."""
    order = torch.tensor([0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5], device=jitter_2N.device)
    rows = torch.arange(size_hw[0], device=jitter_2N.device) % _BLOCK
    columns = torch.arange(size_hw[1], device=jitter_2N.device) % _BLOCK
    cell = order[(rows[:, None] * _BLOCK + columns).flatten()]
    cell = (cell * (2 * salt + 1) + 5 * salt) % 16
    return (torch.stack([cell % _BLOCK, cell // _BLOCK]) + jitter_2N) / _BLOCK


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=torch.float32)[:, None]


def _dot(a_3N: Tensor, b_3N: Tensor) -> Tensor:
    return a_3N[0] * b_3N[0] + a_3N[1] * b_3N[1] + a_3N[2] * b_3N[2]


def _light_visibility(
    packed: PackedScene, light: Light, start_3N: Tensor, lit_N: Tensor, strata_2N: Tensor, order_N: Tensor
) -> Tensor:
    """1 where a random point of the light is seen, 0 in its shadow; (N,)."""
    chosen = order_N[lit_N[order_N]]
    start, u, v = start_3N[:, chosen], strata_2N[0, chosen] * 2 - 1, strata_2N[1, chosen] * 2 - 1
    target = _column(light.position, start) + _column(light.half_u, start) * u + _column(light.half_v, start) * v
    extent_m = math.hypot(*light.half_u) + math.hypot(*light.half_v)
    seen = nearest(packed.shadow, start, target - start, towards(_column(light.position, start), extent_m)) >= 1.0
    return torch.zeros_like(lit_N, dtype=torch.float32).index_put((chosen,), seen.float())


def _sun_visibility(packed: PackedScene, sun: Sun, start_3N: Tensor, facing_N: Tensor) -> Tensor:
    """1 where the sun shines through its window and past the furniture; (N,)."""
    direction = _column(sun.towards, start_3N)
    t, face = leave_room(packed.size_3, start_3N, direction.expand_as(start_3N))
    exit_3N = start_3N + t * direction
    through = ((exit_3N > _column(sun.low, start_3N)) & (exit_3N < _column(sun.high, start_3N))).all(0)
    chosen = (facing_N & through & ((face == sun.face) | (sun.face == ANY_FACE))).nonzero()[:, 0]
    visible = torch.zeros_like(t)
    if chosen.numel() == 0:
        return visible
    free = nearest(packed.shadow, start_3N[:, chosen], direction) == math.inf
    return visible.index_put((chosen,), free.float())


def _openness(packed: PackedScene, hits: Hits, start_3N: Tensor, strata_2N: Tensor, order_N: Tensor) -> Tensor:
    """How far one cosine-distributed ray gets, 0 (touching) to 1 (`_OCCLUSION_M` or more); (N,)."""
    height, turn = 2 * strata_2N[0] - 1, 2 * math.pi * strata_2N[1]
    ring = (1 - height * height).clamp_min(0).sqrt()
    ball = torch.stack([ring * torch.cos(turn), height, ring * torch.sin(turn)])
    direction = normalize(hits.normal_3N * 1.02 + ball)
    ordered = nearest(packed.shadow, start_3N[:, order_N], direction[:, order_N], within(_OCCLUSION_M))
    t_solid = torch.empty_like(ordered).index_put_((order_N,), ordered)
    t = torch.minimum(t_solid, leave_room(packed.size_3, start_3N, direction)[0])
    return (t / _OCCLUSION_M).clamp(0, 1).sqrt()


def _smooth(values_LN: Tensor, hits: Hits, size_hw: tuple[int, int]) -> Tensor:
    """Average over 4x4 pixels of the same face, which turns one sample per pixel into sixteen."""
    face = hits.face_N.view(1, 1, *size_hw).float()
    values = values_LN.view(1, -1, *size_hw)
    pad = (1, _BLOCK - 2, 1, _BLOCK - 2)
    faces, padded = functional.pad(face, pad, value=-1.0), functional.pad(values, pad)
    total, weight = torch.zeros_like(values), torch.zeros_like(face)
    for row in range(_BLOCK):
        for column in range(_BLOCK):
            window = (..., slice(row, row + size_hw[0]), slice(column, column + size_hw[1]))
            same = (faces[window] == face).float()
            total.addcmul_(padded[window], same)
            weight += same
    return (total / weight).view_as(values_LN)


def _patch(packed: PackedScene, hits: Hits, material_MN: Tensor, chosen: Tensor, pixel_m: Tensor) -> Patch:
    unit, half, axis = hits.unit_3N[:, chosen], hits.half_3N[:, chosen], hits.axis_N[chosen]
    local = unit * half
    turn = torch.atan2(unit[2], unit[0])
    # Which two axes span the face: x faces (z, y), y faces (x, z), z faces (x, y), curved ones (angle, y).
    u = torch.where(axis == 0, local[2], torch.where(axis == 3, turn * half[0], local[0]))
    v = torch.where(axis == 1, local[2], local[1])
    unit_u = torch.where(axis == 0, unit[2], torch.where(axis == 3, turn / math.pi, unit[0]))
    unit_v = torch.where(axis == 1, unit[2], unit[1])
    return Patch(material_MN[:, chosen], u, v, unit_u, unit_v, local, pixel_m[chosen])


def _albedo(packed: PackedScene, hits: Hits, material_MN: Tensor, pixel_m: Tensor) -> Tensor:
    texture_N = packed.texture_S[hits.surface_N]
    color = torch.zeros_like(hits.point_3N)
    for texture in packed.textures_used:
        chosen = (texture_N == texture).nonzero()[:, 0]
        if chosen.numel():
            color[:, chosen] = albedo(texture, _patch(packed, hits, material_MN, chosen, pixel_m))
    return color


def shade(
    scene: Scene,
    packed: PackedScene,
    hits: Hits,
    direction_3N: Tensor,
    focal_px: float,
    size_hw: tuple[int, int],
    jitter_2N: Tensor,
) -> Tensor:
    """Linear radiance (3, N) of every pixel of an image `size_hw`, whose rays gave `hits`."""
    normal, point = hits.normal_3N, hits.point_3N
    towards_eye = -normalize(direction_3N)
    slant = _dot(normal, towards_eye).clamp(0.15, 1.0)
    start = point + normal * _OFFSET_M
    material_MN = packed.material_SM[hits.surface_N].t().contiguous()

    order = tile_order(size_hw, point.device)
    visible, diffuse_L, halfway_L, colors = [], [], [], []
    for rank, light in enumerate(scene.lights):
        offset = _column(light.position, point) - point
        distance2 = _dot(offset, offset)
        beam_to = offset * (distance2 + 1e-6).rsqrt()
        facing = _column(light.facing, point)
        leaving = 1.0 if light.facing == (0, 0, 0) else (-_dot(beam_to, facing)).clamp_min(0.0)
        diffuse = _dot(normal, beam_to).clamp_min(0.0) * leaving / (distance2 + 0.15)
        shadowed = rank < _SHADOWED_LIGHTS
        strata = _strata(size_hw, jitter_2N, rank + 1)
        visible.append(
            _light_visibility(packed, light, start, diffuse > 0, strata, order)
            if shadowed
            else torch.ones_like(diffuse)
        )
        diffuse_L.append(diffuse)
        halfway_L.append(_dot(normal, normalize(beam_to + towards_eye)).clamp_min(0.0))
        colors.append(light.color)
    if scene.sun is not None:
        beam_to = _column(scene.sun.towards, point)
        diffuse = _dot(normal, beam_to).clamp_min(0.0)
        visible.append(_sun_visibility(packed, scene.sun, start, diffuse > 0))
        diffuse_L.append(diffuse)
        halfway_L.append(_dot(normal, normalize(beam_to + towards_eye)).clamp_min(0.0))
        colors.append(scene.sun.color)
    visible.append(_openness(packed, hits, start, _strata(size_hw, jitter_2N, 0), order))
    smooth = _smooth(torch.stack(visible), hits, size_hw)

    gloss, shininess = material_MN[_GLOSS], material_MN[_SHININESS]
    up = 0.5 + 0.5 * normal[1]
    irradiance = _column(scene.ambient, point) * (0.75 + 0.35 * up) * smooth[-1]
    highlight = torch.zeros_like(point)
    for diffuse, halfway, seen, color in zip(diffuse_L, halfway_L, smooth, colors, strict=False):
        beam = _column(color, point) * (diffuse * seen)
        irradiance = irradiance + beam
        highlight = highlight + beam * (halfway**shininess * (shininess + 8) / 25)
    color = _albedo(packed, hits, material_MN, hits.depth_N / focal_px / slant)
    grazing = 0.04 + 0.3 * (1 - slant) ** 4
    mirror = _column(scene.ambient, point) * gloss * grazing * (1.5 + normal[1])
    return color * irradiance + highlight * gloss * 0.4 + mirror + color * material_MN[_EMISSION]
