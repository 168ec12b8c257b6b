"""What surrounds a scene in the open: sky with clouds above a line of hills, trees or haze. It gives light itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .noise import noise

if TYPE_CHECKING:
    from .textures import Patch


def sky(patch: Patch) -> Tensor:
    """(3, N): from `color_b` at the horizon to `color_a` above, `strength` clouds; land up to `scale_v_m` metres."""
    x, y, z = patch.local_3N
    phase, height = patch.get("phase"), patch.get("scale_u_m")
    _, clouds = noise(torch.stack([x * 0.9 + phase, y * 1.6, z * 0.9 + phase]))
    up = (y / height).clamp(0, 1)
    color = patch.color_b + (patch.color_a - patch.color_b) * up
    cover = ((clouds - 1.0 + patch.get("strength")) * 4).clamp(0, 1)
    color = color + (torch.full_like(color, 0.9) * (0.6 + 0.4 * up) - color) * cover
    _, ridge = noise(torch.stack([x * 1.2 + phase, torch.full_like(y, 3.0), z * 1.2]))
    value, leaves = noise(torch.stack([x * 9, y * 9 + phase, z * 9]))
    land = y < patch.get("scale_v_m") * (0.3 + 1.4 * ridge) + 0.25 * (leaves - 0.5)
    green = torch.stack([0.10 + 0.2 * leaves, 0.16 + 0.22 * leaves, 0.07 + 0.12 * value])
    # Far land turns blue-grey: a share of the horizon's own colour, as `variant` says.
    green = green + (patch.color_b * 0.6 - green) * patch.get("variant")
    return torch.where(land, green, color)
