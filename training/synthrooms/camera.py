"""A pinhole camera inside the room, and the rays of its pixels.

Axes: N rays. World x, y (up), z in metres. Camera x right, y up, z backwards (towards the viewer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .pieces import Vec3, rotation


@dataclass(frozen=True)
class Camera:
    """Pose and vertical field of view; yaw 0 looks along -z, positive pitch looks up.

    `distortion` bends straight lines: a point at r (in focal lengths) from the middle of the picture shows what a
    straight lens has at r * (1 + distortion * r^2); below 0 a pincushion, above 0 a barrel.
    """

    position: Vec3
    yaw_rad: float
    pitch_rad: float
    roll_rad: float
    vertical_fov_rad: float
    distortion: float = 0.0

    def axes_33(self) -> np.ndarray:
        """Columns: right, up and backward in world coordinates."""
        return rotation(self.yaw_rad, self.pitch_rad, self.roll_rad)

    def focal_px(self, height_px: int) -> float:
        return height_px / 2 / math.tan(self.vertical_fov_rad / 2)


def pixel_rays(camera: Camera, x_px_N: Tensor, y_px_N: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Ray directions (3, N) in world coordinates through image points, in pixels from the top left corner.

    Their component along the optical axis is exactly 1, so that the ray parameter *is* the depth z.
    """
    height_px, width_px = size_hw
    focal_px = camera.focal_px(height_px)
    right = (x_px_N - width_px / 2) / focal_px
    up = (height_px / 2 - y_px_N) / focal_px
    if camera.distortion:
        bend = 1 + camera.distortion * (right * right + up * up)
        right, up = right * bend, up * bend
    axes = torch.from_numpy(camera.axes_33()).to(device=right.device, dtype=torch.float32)
    return axes[:, 0:1] * right + axes[:, 1:2] * up - axes[:, 2:3]


def pixel_grid(size_hw: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y of all pixel centres, row by row, each (H*W,) in pixels."""
    height_px, width_px = size_hw
    y_px = torch.arange(height_px, device=device, dtype=torch.float32) + 0.5
    x_px = torch.arange(width_px, device=device, dtype=torch.float32) + 0.5
    return x_px.repeat(height_px), y_px.repeat_interleave(width_px)
