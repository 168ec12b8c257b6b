"""Textures taken from photographs: brick, grass, gravel, cells under a microscope, whatever scikit-image brings along.

Only pictures that no page of slimpath judges the model on: what it is shown there must not have been trained on.

Axes: N points, P pictures, L levels of halved resolution.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from .textures import Patch

FILES = (
    "brick.png", "grass.png", "gravel.png", "moon.png", "coins.png", "cell.png", "ihc.png", "hubble_deep_field.jpg",
    "microaneurysms.png", "retina.jpg", "page.png", "text.png",
)  # fmt: skip
_SIDE = 256
_LEVELS = 6


class NoPhotographs(RuntimeError):
    """scikit-image is not installed, or came without its pictures."""


def _folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        if (Path(place) / "data" / FILES[0]).is_file():
            return Path(place) / "data"
    raise NoPhotographs(
        "wide scenes take textures from the pictures of scikit-image, which is not installed: "
        "pip install 'slimpath[train]', or render world 'rooms'"
    )


def _tile(path: Path) -> np.ndarray:
    """The middle square of a picture, with itself mirrored beside and below so that it repeats without a seam; linear
    light, contrast stretched, float32 (3, SIDE, SIDE)."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise NoPhotographs(f"{path.name} of scikit-image cannot be read")
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    square = cv2.resize(picture[top : top + side, left : left + side], (_SIDE // 2,) * 2, interpolation=cv2.INTER_AREA)
    light = square[..., ::-1].astype(np.float32) / 255
    low, high = np.percentile(light, (2, 98))
    light = np.clip((light - low) / max(high - low, 1e-3), 0.02, 1) ** 2.2
    across = np.concatenate([light, light[:, ::-1]], axis=1)
    return np.ascontiguousarray(np.concatenate([across, across[::-1]]).transpose(2, 0, 1))


@lru_cache(maxsize=2)
def _levels(device: torch.device) -> tuple[Tensor, ...]:
    """All pictures at each resolution, (P, 3, side, side)."""
    folder = _folder()
    level = torch.from_numpy(np.stack([_tile(folder / name) for name in FILES])).to(device)
    levels = [level]
    for _ in range(_LEVELS - 1):
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return tuple(levels)


def photo(patch: Patch) -> Tensor:
    """(3, N): the picture that `variant` names, `scale_u_m` wide; in its own colours, or `strength` > 0.4: from
    `color_b` in its shadows to `color_a` in its lights."""
    levels = _levels(patch.u.device)
    scale = patch.get("scale_u_m").clamp_min(1e-3)
    number = (patch.get("variant") * len(FILES)).long().clamp(0, len(FILES) - 1)
    u, v = torch.remainder(patch.u / scale + patch.get("phase"), 1.0), torch.remainder(patch.v / scale, 1.0)
    # One texel a pixel: finer would flicker, coarser would blur.
    wanted = torch.log2((patch.pixel_m / scale * _SIDE).clamp(1.0, 2.0 ** (_LEVELS - 1))).round().long()
    color = torch.zeros(3, patch.u.numel(), device=patch.u.device)
    for index, level in enumerate(levels):
        chosen = (wanted == index).nonzero()[:, 0]
        if chosen.numel():
            color[:, chosen] = _bilinear(level, number[chosen], u[chosen], v[chosen])
    light = color.mean(0)
    duotone = patch.color_b + (patch.color_a - patch.color_b) * light
    return torch.where(patch.get("strength") > 0.4, duotone, color)


def _bilinear(level_P3SS: Tensor, number: Tensor, u: Tensor, v: Tensor) -> Tensor:
    side = level_P3SS.shape[-1]
    x, y = u * side - 0.5, v * side - 0.5
    left, top = x.floor(), y.floor()
    right_share, low_share = x - left, y - top
    found = torch.zeros(3, u.numel(), device=u.device)
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = ((left + dx).long() % side), ((top + dy).long() % side)
            weight = (right_share if dx else 1 - right_share) * (low_share if dy else 1 - low_share)
            found += level_P3SS[number, :, row, column].t() * weight
    return found
