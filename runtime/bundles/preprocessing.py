"""What a manifest says of pictures: how one becomes the encoder's input."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from .manifest_checks import require


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes the encoder's input: fit to size, / 255, - mean, / std. Padding is `pad_rgb`."""

    fit: Literal["letterbox", "stretch"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["rgb"] = "rgb"
    pad_rgb: tuple[int, int, int] = (0, 0, 0)


def check_preprocessing(given: Preprocessing) -> None:
    """Numbers that pictures can be computed with.

    Raises:
        ManifestError: naming the field that has others.
    """
    require(all(map(math.isfinite, given.mean)), "preprocessing.mean", "finite", given.mean)
    require(all(math.isfinite(s) and s > 0 for s in given.std), "preprocessing.std", "above 0", given.std)
    require(all(0 <= c <= 255 for c in given.pad_rgb), "preprocessing.pad_rgb", "RGB from 0 to 255", given.pad_rgb)
