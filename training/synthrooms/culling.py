"""Which solids a bundle of rays can meet at all: tests against the balls around them.

Bundles are compact when rays come tile by tile of the image, in the order of `tile_order`.

Axes: P solids, N rays, 3 coordinates.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .intersect import Keep, Solids, normalize

_TILE_PX = 32


@lru_cache(maxsize=8)
def tile_order(size_hw: tuple[int, int], device: torch.device) -> Tensor:
    """Indices (H*W,) of all pixels, tile after tile of 32 x 32."""
    height, width = size_hw
    row = torch.arange(height, device=device)[:, None].expand(height, width)
    column = torch.arange(width, device=device)[None].expand(height, width)
    tile = (row // _TILE_PX) * width + column // _TILE_PX
    return torch.argsort(tile.flatten(), stable=True)


def _in_cone(solids: Solids, apex_31: Tensor, rays_3N: Tensor, slack_m: float) -> Tensor:
    """Solids (P,) that reach into the cone around `rays` from `apex`, both widened by `slack_m`."""
    rays = normalize(rays_3N)
    axis = normalize(rays.mean(dim=1, keepdim=True))
    half_angle = torch.acos((rays * axis).sum(0).min().clamp(-1, 1)) + 1e-3
    offset = solids.centre_P3.t() - apex_31
    distance = offset.norm(dim=0)
    radius = solids.radius_P + slack_m
    angle = torch.acos(((offset * axis).sum(0) / distance).clamp(-1, 1))
    return (distance <= radius) | (angle - torch.asin((radius / distance).clamp_max(1)) <= half_angle)


def seen_from_one_point(solids: Solids, origin_3N: Tensor, direction_3N: Tensor) -> Tensor:
    """For camera rays, which share their origin."""
    return _in_cone(solids, origin_3N, direction_3N, 0.0)


def towards(light_31: Tensor, extent_m: float) -> Keep:
    """For shadow rays that end within `extent_m` of a light."""

    def keep(solids: Solids, origin_3N: Tensor, direction_3N: Tensor) -> Tensor:
        return _in_cone(solids, light_31, origin_3N - light_31, extent_m)

    return keep


def within(reach_m: float) -> Keep:
    """For unit rays of which only the first `reach_m` count."""

    def keep(solids: Solids, origin_3N: Tensor, direction_3N: Tensor) -> Tensor:
        reach = solids.radius_P[:, None] + reach_m
        low, high = origin_3N.amin(dim=1), origin_3N.amax(dim=1)
        return ((solids.centre_P3 + reach > low) & (solids.centre_P3 - reach < high)).all(dim=1)

    return keep
