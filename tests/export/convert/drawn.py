"""Weights and images that depend on nothing but names and numbers, so that no file has to hold them.

The logits in tests/fixtures/timm are what timm 1.0.31 computes with these weights on these images:

    vit      VisionTransformer(img_size=(32, 32), patch_size=8, embed_dim=48, depth=3, num_heads=4, num_classes=10),
             seed 1
    vit_avg  the same with global_pool="avg", seed 2
    swin     SwinTransformer(img_size=64, patch_size=4, window_size=4, embed_dim=16, depths=(2, 2, 2, 2),
             num_heads=(2, 4, 4, 8), num_classes=10), seed 3; swin_128 the same with img_size=128, seed 4
"""

import json
import zlib

import numpy as np
import torch
from torch import Tensor

from .conftest import FIXTURES


def weights(model: str, seed: int, changed: dict[str, tuple[int, ...]] | None = None) -> dict[str, Tensor]:
    """A state dict with the names and shapes that timm has, uniform numbers drawn by name."""
    shapes = json.loads((FIXTURES / "timm" / "names.json").read_text())[model]
    return {name: _draw(name, (changed or {}).get(name, tuple(shape)), seed) for name, shape in shapes.items()}


def images(size_hw: tuple[int, int], seed: int) -> Tensor:
    """Two images, uniform from -2 to 2, [2, 3, H, W]."""
    return torch.from_numpy(np.random.default_rng(seed).random((2, 3, *size_hw), dtype=np.float32) * 4 - 2)


def _draw(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.random(shape, dtype=np.float32) * 2 - 1
    last = name.rpartition(".")[2]
    if "norm" in name and last == "weight":
        values = 1 + 0.5 * values
    elif last == "bias":
        values = 0.1 * values
    elif len(shape) >= 2 and not any(part in name for part in ("table", "pos", "cls")):
        values = values * np.float32((3 / np.prod(shape[1:])) ** 0.5)
    return torch.from_numpy(np.ascontiguousarray(values))
