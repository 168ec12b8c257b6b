"""Tasks that SynthRooms can label beside its own: worked out from a room's geometry and its exact depth.

| task | kind | what |
|---|---|---|
| layout | classes | floor, wall or ceiling: the room's shell, also where things stand before it |
| height | depth | metres above the floor, at least 5 cm |

Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...runtime.tasks import TaskSpec
from ..augment import AugmentConfig
from ..errors import ConfigError
from ..synthrooms import render_rooms
from ..synthrooms.camera import pixel_grid, pixel_rays
from ..synthrooms.sampling import sample_scene
from ..synthrooms.scene import Scene
from .kinds import LIKE

__all__ = ["FIRST_TRAINING_SEED", "ROOM_TASKS", "NewRooms", "RoomTask", "room_task"]

FIRST_TRAINING_SEED = 1_000_000
"""Rooms from here on are rendered to learn a new task: the bundled model has seen none of them."""

_LEAST_HEIGHT_M = 0.05  # heights are learnt as logarithms, and the floor's own is 0


@dataclass(frozen=True)
class RoomTask:
    """A task and how a room is labelled for it: label(scene, depth in metres [H, W]) -> [H, W]."""

    spec: TaskSpec
    label: Callable[[Scene, np.ndarray], np.ndarray]
    augment: AugmentConfig = field(default_factory=AugmentConfig)


def _rays(scene: Scene, size_hw: tuple[int, int]) -> np.ndarray:
    """Directions (3, H, W) in world axes through the pixels' centres, 1 m long along the optical axis."""
    x_px, y_px = pixel_grid(size_hw, torch.device("cpu"))
    return pixel_rays(scene.camera, x_px, y_px, size_hw).numpy().astype(np.float64).reshape(3, *size_hw)


def layout(scene: Scene, depth_HW: np.ndarray) -> np.ndarray:
    """0 floor, 1 wall, 2 ceiling: the face of the room's box through which each pixel's ray leaves it."""
    rays = _rays(scene, (depth_HW.shape[0], depth_HW.shape[1]))
    origin, size = (np.array(triple)[:, None, None] for triple in (scene.camera.position, scene.size_m))
    away = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    reach = (np.where(away > 0, size, 0.0) - origin) / away
    axis = reach.argmin(axis=0)
    return np.where(axis == 1, np.where(rays[1] > 0, 2, 0), 1).astype(np.uint8)


def height(scene: Scene, depth_HW: np.ndarray) -> np.ndarray:
    """Metres above the floor of what each pixel shows."""
    rays = _rays(scene, (depth_HW.shape[0], depth_HW.shape[1]))
    up_m = scene.camera.position[1] + depth_HW * rays[1]
    return np.maximum(up_m, _LEAST_HEIGHT_M).astype(np.float32)


ROOM_TASKS: dict[str, RoomTask] = {
    "layout": RoomTask(
        TaskSpec(
            "layout",
            "classes",
            3,
            ("floor", "wall", "ceiling"),
            ((168, 132, 96), (196, 200, 206), (120, 200, 240)),
            "class id",
            "the room's shell, also where things stand before it",
        ),
        layout,
    ),
    # A crop is enlarged, and depth divided by the zoom (see `augment`): right for distances, wrong for heights.
    "height": RoomTask(
        TaskSpec("height", "depth", 1, unit="m", description="height above the floor, at least 5 cm"),
        height,
        AugmentConfig(crop=0, letterbox=0),
    ),
}


def room_task(name: str) -> RoomTask:
    """The task of that name.

    Raises:
        ConfigError: SynthRooms cannot label it.
    """
    if name not in ROOM_TASKS:
        raise ConfigError(
            f"SynthRooms labels the new tasks {', '.join(ROOM_TASKS)}, got '{name}'; "
            "any other needs a folder of labelled pictures, --data FOLDER"
        )
    return ROOM_TASKS[name]


class NewRooms:
    """Rooms with the labels of one new task, rendered when they are first asked for and kept in memory after that."""

    def __init__(
        self, task: RoomTask, first_seed: int, count: int, size_hw: tuple[int, int], *, samples_per_pixel: int = 1
    ) -> None:
        self.task = task
        self.first_seed = first_seed
        self.count = count
        self.size_hw = size_hw
        self.samples_per_pixel = samples_per_pixel
        self._kept: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index not in self._kept:
            seed = self.first_seed + index
            rooms = render_rooms([seed], self.size_hw, samples_per_pixel=self.samples_per_pixel)
            label = self.task.label(sample_scene(seed), rooms.depth_BHW[0].numpy())
            self._kept[index] = {"image": rooms.image_BHW3[0].numpy(), LIKE[self.task.spec.kind]: label}
        return self._kept[index]

    def __str__(self) -> str:
        return f"SynthRooms, seeds {self.first_seed} to {self.first_seed + self.count - 1}"
