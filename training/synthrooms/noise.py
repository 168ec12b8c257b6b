"""Tileable 3-D noise, looked up from one small volume: far cheaper than hashing lattice corners per pixel.

Axes: N points.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_CELLS = 64


@lru_cache(maxsize=4)
def _volume(device: torch.device) -> Tensor:
    """(1, 2, 65, 65, 65): white value noise, and four octaves of it (features of 8 down to 1 cell); both 0..1."""
    generator = torch.Generator().manual_seed(20240601)
    octaves = []
    for cells in (8, 16, 32, 64):
        lattice = torch.rand(1, 1, cells, cells, cells, generator=generator)
        wrapped = functional.pad(lattice, (0, 1) * 3, mode="circular")
        octaves.append(functional.interpolate(wrapped, size=(_CELLS + 1,) * 3, mode="trilinear", align_corners=True))
    weights = torch.tensor((0.5, 0.27, 0.15, 0.08))[:, None, None, None, None, None]
    smooth = (torch.stack(octaves) * weights).sum(dim=0)
    smooth = ((smooth - 0.5) * 1.9 + 0.5).clamp(0, 1)
    return torch.cat([octaves[-1], smooth], dim=1).to(device)


def noise(points_3N: Tensor) -> tuple[Tensor, Tensor]:
    """Value noise and fractal noise, each (N,) in 0..1, at points measured in cells; both repeat every 64 cells."""
    wrapped = torch.remainder(points_3N, _CELLS) * (2.0 / _CELLS) - 1.0
    grid = wrapped.t()[None, None, None]
    found = functional.grid_sample(_volume(points_3N.device), grid, mode="bilinear", align_corners=True)
    return found[0, 0, 0, 0], found[0, 1, 0, 0]


def scramble(a: Tensor, b: Tensor | float = 0.0, seed: Tensor | float = 0.0) -> Tensor:
    """A number in 0..1 that looks random, for whole numbers `a` and `b` (hash without state)."""
    x = torch.sin(a * 12.9898 + b * 78.233 + seed * 3.7719) * 437.585453
    return x - x.floor()
