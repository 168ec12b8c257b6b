"""From a seed to a scene: room, furniture, light, camera, sensor. All on the CPU; no more than a few test rays."""

from __future__ import annotations

from dataclasses import dataclass

from . import finishes, fittings
from .camera import Camera
from .classes import ROOM_TYPES
from .dice import Dice
from .furniture import Style, make_style
from .layout import Plan
from .materials import Material, Rgb
from .rooms import PROPORTIONS, furnish
from .scene import Light, Scene, Sensor, Sun
from .viewpoint import choose_camera

CLOSE_UP_SHARE = 0.25


@dataclass(frozen=True)
class Lighting:
    lights: tuple[Light, ...]
    sun: Sun | None
    ambient: Rgb


@dataclass(frozen=True)
class Shell:
    """A room before anything stands in it."""

    room_type: str
    plan: Plan
    style: Style
    faces: tuple[Material, ...]


def draw_shell(dice: Dice) -> Shell:
    room_type = dice.choice(ROOM_TYPES)
    width, length, height = (dice.uniform(*span) for span in PROPORTIONS[room_type])
    style = make_style(dice)
    walls = finishes.wall(dice, room_type)
    accent = finishes.wall(dice, room_type) if dice.chance(0.25) else walls
    faces = (walls, walls, finishes.floor(dice, room_type), finishes.ceiling(dice, room_type), accent, walls)
    return Shell(room_type, Plan(width, height, length), style, faces)


def draw_sensor(dice: Dice) -> Sensor:
    warm, green = dice.uniform(-0.16, 0.16), dice.uniform(-0.05, 0.05)
    strong = dice.chance(0.12)  # heavy colour grading, as from a phone's filter
    reach = 0.22 if strong else 0.05
    return Sensor(
        key=dice.log_uniform(0.11, 0.30),
        white_balance=(1 + warm, 1 + green, 1 - warm),
        vignetting=dice.uniform(0.0, 0.45) if dice.chance(0.6) else 0.0,
        blur_px=dice.choice((0.0, dice.uniform(0.3, 0.7), dice.uniform(0.6, 1.2)), (0.35, 0.5, 0.15)),
        shot_noise=dice.log_uniform(0.002, 0.04),
        read_noise=dice.log_uniform(0.0005, 0.012),
        contrast=dice.uniform(0.7, 1.5) if strong else dice.uniform(0.88, 1.15),
        saturation=dice.uniform(0.0, 1.7) if strong else dice.uniform(0.75, 1.25),
        gamma=dice.uniform(0.85, 1.18),
        tint=(dice.uniform(-reach, reach), dice.uniform(-reach, reach), dice.uniform(-reach, reach)),
    )


def draw_windows(dice: Dice, plan: Plan, room_type: str, *, night: bool) -> list[fittings.Opening]:
    most = {"corridor": 1, "office": 3, "living_room": 3}.get(room_type, 2)
    count = dice.integer(0 if room_type == "corridor" else 1, most)
    openings = [fittings.window(dice, plan, night=night) for _ in range(count)]
    return [opening for opening in openings if opening]


def draw_lighting(dice: Dice, plan: Plan, room_type: str, windows: list[fittings.Opening], *, night: bool) -> Lighting:
    kinds = ("panels", "dome", "hanging")
    kind = dice.choice(kinds, (0.7, 0.2, 0.1) if room_type in ("office", "corridor") else (0.05, 0.4, 0.55))
    switched_on = night or not windows or dice.chance(0.55)
    lights: list[Light] = []
    if switched_on or dice.chance(0.7):
        power = dice.log_uniform(2.0, 9.0) if switched_on else 0.0
        lights = fittings.ceiling_lamp(dice, plan, kind, dice.uniform(-0.05, 0.32), power)
        lights = lights if switched_on else []
    lights += [opening.light for opening in windows]
    lights.sort(key=lambda light: -sum(light.color))
    sun = fittings.sun_through(dice, plan, windows[0]) if windows and not night and dice.chance(0.4) else None
    level = (
        dice.uniform(0.1, 0.35)
        * (sum(sum(light.color) for light in lights) / 3 + 1.0)
        / (plan.width * plan.length) ** 0.5
    )
    warm = dice.uniform(-0.08, 0.12)
    return Lighting(tuple(lights[:3]), sun, (level * (1 + warm), level, level * (1 - warm)))


def sample_scene(seed: int) -> Scene:
    """The scene of `seed`, always the same.

    Raises:
        ValueError: the seed is negative.
    """
    if seed < 0:
        raise ValueError(f"a scene seed must be >= 0, got {seed}")
    dice = Dice(seed)
    shell = draw_shell(dice)
    room_type, plan = shell.room_type, shell.plan
    close_up = dice.chance(CLOSE_UP_SHARE)
    night = dice.chance(0.2)
    windows = draw_windows(dice, plan, room_type, night=night)
    furnish(dice, shell.style, plan, room_type)
    lighting = draw_lighting(dice, plan, room_type, windows, night=night)
    sensor = draw_sensor(dice)
    camera: Camera = choose_camera(dice, plan, room_type, close_up=close_up)
    return Scene(
        seed,
        room_type,
        (plan.width, plan.height, plan.length),
        shell.faces,
        tuple(plan.pieces),
        lighting.lights,
        lighting.sun,
        lighting.ambient,
        camera,
        sensor,
    )
