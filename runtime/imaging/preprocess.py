"""Picture -> the encoder's input, and the way back to the picture's pixels. The one place that knows how.

Axes: C channels (RGB), H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from ..bundles.preprocessing import Preprocessing
from ..errors import SizeError

#: Mean and deviation of ImageNet's pixels in 0 .. 1, RGB: what backbones are commonly trained on.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the network plane: rows top .. top + height, columns left .. left + width.

    Args:
        image_hw: size of the picture, upright.
        size_hw: size of the network plane.
    """

    image_hw: tuple[int, int]
    size_hw: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Network pixels per picture pixel, down and across."""
        return self.height / self.image_hw[0], self.width / self.image_hw[1]

    def crop(self, plane: np.ndarray) -> np.ndarray:
        """The part of a network plane [H, W, ...] that shows the picture; a view, no copy."""
        if plane.shape[:2] != self.size_hw:
            raise SizeError(f"a plane of {self.size_hw} is expected, got {plane.shape[:2]}")
        return plane[self.top : self.top + self.height, self.left : self.left + self.width]

    def restore(self, plane: np.ndarray, *, interpolation: Literal["nearest", "linear"] = "linear") -> np.ndarray:
        """A network plane [H, W] or [H, W, C] cropped to the picture and resized to its pixels."""
        import cv2

        how = cv2.INTER_NEAREST if interpolation == "nearest" else cv2.INTER_LINEAR
        content = np.ascontiguousarray(self.crop(plane))
        return cv2.resize(content, (self.image_hw[1], self.image_hw[0]), interpolation=how)

    def to_image_xy(self, points_xy: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the network plane as (x, y) -> the same points of the picture."""
        scale_y, scale_x = self.scale_yx
        return (np.asarray(points_xy, np.float64) - (self.left, self.top)) / (scale_x, scale_y)


def place(image_hw: tuple[int, int], size_hw: tuple[int, int], fit: Literal["letterbox", "stretch"]) -> Placement:
    """Where a picture of `image_hw` goes in a plane of `size_hw`: centred, aspect kept, unless stretched."""
    height, width = size_hw
    if fit == "letterbox":
        scale = min(size_hw[0] / image_hw[0], size_hw[1] / image_hw[1])
        height = min(size_hw[0], max(1, round(image_hw[0] * scale)))
        width = min(size_hw[1], max(1, round(image_hw[1] * scale)))
    return Placement(image_hw, size_hw, (size_hw[0] - height) // 2, (size_hw[1] - width) // 2, height, width)


def preprocess(
    rgb_HWC: np.ndarray,
    size_hw: tuple[int, int],
    preprocessing: Preprocessing,
    *,
    image_hw: tuple[int, int] | None = None,
) -> tuple[np.ndarray, Placement]:
    """Fit, pad and normalise one picture.

    Args:
        rgb_HWC: uint8, at least 1 x 1.
        image_hw: size of the whole picture where `rgb_HWC` was scaled down while decoding.

    Returns:
        float32 [3, H, W], and where the picture lies in it.
    """
    placement = place(image_hw or (rgb_HWC.shape[0], rgb_HWC.shape[1]), size_hw, preprocessing.fit)
    content = _resize(rgb_HWC, placement.height, placement.width)
    scale, shift, pad = _constants(preprocessing.mean, preprocessing.std, preprocessing.pad_rgb)
    plane_CHW = np.empty((3, *size_hw), np.float32)
    padded = (placement.height, placement.width) != size_hw
    rows = slice(placement.top, placement.top + placement.height)
    columns = slice(placement.left, placement.left + placement.width)
    for channel in range(3):
        if padded:
            plane_CHW[channel] = pad[channel]
        target = plane_CHW[channel, rows, columns]
        np.multiply(content[..., channel], scale[channel], out=target)
        np.add(target, shift[channel], out=target)
    return plane_CHW, placement


def _resize(rgb_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    if rgb_HWC.shape[:2] == (height, width):
        return rgb_HWC
    import cv2

    # Each axis by its own rule, area means where it shrinks, linear where it grows: OpenCV's INTER_AREA does neither
    # where stretching makes one axis shorter and the other longer.
    shrunk_hw = min(height, rgb_HWC.shape[0]), min(width, rgb_HWC.shape[1])
    if rgb_HWC.shape[:2] != shrunk_hw:
        rgb_HWC = cv2.resize(rgb_HWC, shrunk_hw[::-1], interpolation=cv2.INTER_AREA)
    if shrunk_hw != (height, width):
        rgb_HWC = cv2.resize(rgb_HWC, (width, height), interpolation=cv2.INTER_LINEAR)
    return rgb_HWC


@lru_cache(maxsize=16)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], pad_rgb: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x / 255 - mean) / std as x * scale + shift, and what the padding becomes; float32 [3] each."""
    scale, shift = 1 / (255 * np.array(std)), -np.array(mean) / np.array(std)
    pad = np.array(pad_rgb) * scale + shift
    return scale.astype(np.float32), shift.astype(np.float32), pad.astype(np.float32)
