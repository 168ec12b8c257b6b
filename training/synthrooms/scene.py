"""What one scene is: plain numbers, no pixels. `sample_scene` in `sampling.py` makes one from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from .camera import Camera
from .lens import Focus
from .materials import Material, Rgb
from .pieces import Piece, Vec3

# Faces of the room in the order of their ids: x=0, x=width, floor, ceiling, z=0, z=length.
FACE_LABELS: tuple[str, ...] = ("wall", "wall", "floor", "ceiling", "wall", "wall")
# A face that is no surface: far away, without class, direction or edges.
SKY = "sky"
ANY_FACE = -1


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
    """Parallel light that enters through one window: only rays leaving through `low`..`high` of `face` see it.
    Through `ANY_FACE`: in the open."""

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
    """`room_type` is empty in the open."""

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
    focus: Focus = field(default_factory=Focus)
    face_labels: tuple[str, ...] = FACE_LABELS
