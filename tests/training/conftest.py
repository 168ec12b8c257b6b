"""Toy scenes, a training of seconds, and torch kept to one thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from slimpath.training.augment import AugmentConfig
from slimpath.training.config import DataConfig, Stage, TrainConfig

TOY_CLASSES = {"semseg": 3, "scene": 2}


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """For fixtures of any scope, too: sums over two threads differ in the last bit from those of one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class ToyRooms:
    """A wall (class 0), a floor (1) and a box (2) in front; everything can be told from the picture."""

    def __init__(self, count: int = 4, size_hw: tuple[int, int] = (32, 32)) -> None:
        self.count, self.size_hw = count, size_hw

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        height, width = self.size_hw
        rng = np.random.default_rng(index)
        horizon = int(rng.integers(height // 3, height // 2))
        top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
        box = np.zeros(self.size_hw, bool)
        box[top : top + height // 3, left : left + width // 3] = True
        rows = np.arange(height)[:, None] + np.zeros((1, width), int)
        semseg = np.where(box, 2, np.where(rows >= horizon, 1, 0)).astype(np.uint8)
        depth = np.where(semseg == 1, 4.0 * (height - horizon + 8) / (rows - horizon + 8).clip(1), 5.0)
        depth = np.where(box, 2.0, depth).astype(np.float32)
        normals = np.zeros((*self.size_hw, 3), np.float32)
        normals[..., 2] = semseg != 1
        normals[..., 1] = semseg == 1
        edge = np.zeros(self.size_hw, np.uint8)
        edge[:, 1:] |= box[:, 1:] != box[:, :-1]
        edge[1:] |= box[1:] != box[:-1]
        scene = index % 2
        colours = np.array([[200, 190, 180], [110, 80, 60], [40, 90, 200]], np.float64)
        image = colours[semseg] * (1.0 if scene else 0.55) + rng.normal(0, 3, (*self.size_hw, 3))
        return {
            "image": image.clip(0, 255).astype(np.uint8),
            "semseg": semseg,
            "depth": depth,
            "normals": normals,
            "edge": edge,
            "saliency": box.astype(np.uint8),
            "scene": scene,
        }


PLAIN_VIEWS = AugmentConfig(flip=0, letterbox=0, crop=0, photometric=0)


def toy_config(**changes: Any) -> TrainConfig:
    """Six tasks, a micro model in fp32, six steps of which the last three are larger."""
    settings: dict[str, Any] = {
        "model": "m3vit_micro",
        "stages": (Stage((32, 32), 12, 0.5), Stage((48, 48), 12, 0.5)),
        "steps": 6,
        "warmup_steps": 2,
        "data": DataConfig(scenes=4, render_hw=(48, 48)),
        "precision": "fp32",
        "ema_decay": 0.9,
        "log_every": 2,
        "save_every": 100,
        "sample_pictures": False,  # with so few rooms an epoch is a step
    }
    return TrainConfig(**{**settings, **changes})
