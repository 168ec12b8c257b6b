"""What a lens does to light before it reaches the sensor: things out of focus turn into discs.

Straight lines that bend (distortion) belong to the camera's rays: labels bend with them.

Axes: H height, W width, 3 colour channels first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_RADII_PX = (0.0, 1.0, 2.0, 3.5, 5.0)  # between them, pictures are mixed


@dataclass(frozen=True)
class Focus:
    """`blur_px`: radius of the disc that a point very far away becomes, in a picture of 224 rows; 0: all is sharp."""

    distance_m: float = 1.0
    blur_px: float = 0.0


def blur_radius_px(depth_HW: Tensor, focus: Focus) -> Tensor:
    """Radius of the circle of confusion of a thin lens, (H, W): proportional to |1 / focus - 1 / depth|."""
    scale = focus.blur_px * depth_HW.shape[0] / 224
    return (scale * (1 - focus.distance_m / depth_HW.clamp_min(1e-3)).abs()).clamp_max(_RADII_PX[-1])


@lru_cache(maxsize=16)
def _disc(radius_px: float) -> Tensor:
    """(1, 1, K, K) disc with soft rim, sum 1."""
    reach = int(radius_px + 1)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = (radius_px + 0.5 - torch.hypot(steps[:, None], steps[None])).clamp(0, 1)
    return (weights / weights.sum())[None, None]


def defocus(light_3HW: Tensor, depth_HW: Tensor, focus: Focus) -> Tensor:
    """Linear light as it falls on the sensor.

    Sharp things do not bleed into the blur behind them: a pixel gives away its light by how blurred it is itself.
    """
    if focus.blur_px <= 0:
        return light_3HW
    radius = blur_radius_px(depth_HW, focus)
    levels = [light_3HW]
    for radius_px in _RADII_PX[1:]:
        disc = _disc(radius_px).to(light_3HW.device)
        weight = (radius / radius_px).clamp(0.02, 1)[None, None]
        pad = (disc.shape[-1] // 2,) * 4
        spread = functional.pad(torch.cat([light_3HW[None] * weight, weight], dim=1), pad, mode="replicate")
        mixed = functional.conv2d(spread, disc.expand(4, 1, -1, -1), groups=4)[0]
        levels.append(mixed[:3] / mixed[3:])
    edges = torch.tensor(_RADII_PX, device=radius.device)
    upper = torch.bucketize(radius, edges).clamp(1, len(_RADII_PX) - 1)
    share = ((radius - edges[upper - 1]) / (edges[upper] - edges[upper - 1])).clamp(0, 1)
    stack = torch.stack(levels)
    low = stack.gather(0, (upper - 1).expand(1, 3, -1, -1))[0]
    high = stack.gather(0, upper.expand(1, 3, -1, -1))[0]
    return low + (high - low) * share
