"""What one scene is: plain numbers, no pixels. `sample_scene` in `sampling.py` makes one from a seed."""

from __future__ import annotations

from dataclasses import dataclass

from .camera import Camera
from .materials import Material, Rgb
from .pieces import Piece, Vec3

# Faces of the room in the order of their ids: x=0, x=width, floor, ceiling, z=0, z=length.
FACE_LABELS: tuple[str, ...] = ("wall", "wall", "floor", "ceiling", "wall", "wall")


@dataclass(frozen=True)
class Light:
    """A lamp or a window: light from a parallelogram around `position`. `facing` (0, 0, 0) shines all round."""

    position: Vec3
    half_u: Vec3
    half_v: Vec3
    facing: Vec3
    color: Rgb  # radiant intensity, arbitrary unit: exposure is set afterwards


@dataclass(frozen=True)
class Sun:
    """Parallel light that enters through one window: only rays leaving through `low`..`high` of `face` see it."""

    towards: Vec3
    color: Rgb
    face: int
    low: Vec3
    high: Vec3


@dataclass(frozen=True)
class Sensor:
    """How light becomes numbers; see `sensor.develop`."""

    key: float
    white_balance: Rgb
    vignetting: float
    blur_px: float
    shot_noise: float
    read_noise: float
    contrast: float
    saturation: float
    gamma: float
    tint: Rgb


@dataclass(frozen=True)
class Scene:
    seed: int
    room_type: str
    size_m: Vec3
    faces: tuple[Material, ...]
    pieces: tuple[Piece, ...]
    lights: tuple[Light, ...]
    sun: Sun | None
    ambient: Rgb
    camera: Camera
    sensor: Sensor
