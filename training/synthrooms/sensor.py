"""From linear light to an sRGB picture: exposure, colour cast, vignetting, blur, noise, tone curve, grading.

Axes: H height, W width, 3 colour channels first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .scene import Sensor


def _blur(image_3HW: Tensor, sigma_px: float) -> Tensor:
    if sigma_px <= 0:
        return image_3HW
    offsets = torch.arange(-2, 3, device=image_3HW.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights = (weights / weights.sum()).repeat(3, 1, 1)
    padded = functional.pad(image_3HW[None], (2, 2, 2, 2), mode="replicate")
    rows = functional.conv2d(padded, weights[:, :, :, None], groups=3)
    return functional.conv2d(rows, weights[:, :, None, :], groups=3)[0]


def _vignette(size_hw: tuple[int, int], strength: float, device: torch.device) -> Tensor:
    y = torch.linspace(-1, 1, size_hw[0], device=device)[:, None]
    x = torch.linspace(-1, 1, size_hw[1], device=device)
    return 1 - strength * 0.5 * (x * x + y * y)


def _exposure(image_3HW: Tensor, key: float) -> Tensor:
    """The factor that brings the typical (geometric mean) luminance to `key`, lights and windows clipped away."""
    luminance = image_3HW.mean(dim=0)
    typical = luminance.clamp_min(1e-4).log().mean().exp()
    typical = luminance.clamp(typical * 0.05, typical * 6).log().mean().exp()
    return key / typical


def _to_srgb(linear: Tensor) -> Tensor:
    return torch.where(linear < 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055)


def develop(light_3HW: Tensor, sensor: Sensor, noise_23HW: Tensor) -> Tensor:
    """uint8 sRGB (H, W, 3) of linear light; `noise_23HW` are two standard normal fields drawn for this scene."""
    device = light_3HW.device
    cast = torch.tensor(sensor.white_balance, device=device)[:, None, None]
    image = _blur(light_3HW, sensor.blur_px) * cast * _exposure(light_3HW, sensor.key)
    image = image * _vignette((image.shape[1], image.shape[2]), sensor.vignetting, device)
    noise = noise_23HW[0] * sensor.shot_noise * image.clamp_min(0).sqrt() + noise_23HW[1] * sensor.read_noise
    image = (image + noise).clamp_min(0)
    # A shoulder instead of clipping: straight up to the midtones, then bending towards white.
    image = torch.where(image < 0.4, image, 0.4 + 0.6 * (1 - torch.exp(-(image - 0.4) / 0.6)))
    image = _to_srgb(image)
    grey = image.mean(dim=0, keepdim=True)
    image = grey + (image - grey) * sensor.saturation
    image = (image - 0.45) * sensor.contrast + 0.45
    tint = torch.tensor(sensor.tint, device=device)[:, None, None]
    image = image.clamp(1e-4, 1) ** sensor.gamma + tint * (image * (1 - image)).clamp_min(0)
    return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0)
