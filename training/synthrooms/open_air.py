"""Scenes in the open: ground, sky or house fronts around, and between them trees, houses, vehicles, people, animals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import finishes
from .dice import Dice
from .layout import Plan
from .living import animal, person
from .materials import Material, Rgb, Texture, hsv, photo, shade, stone
from .outdoors import bush, flower, house, rock, tower, tree
from .pieces import Piece, standing
from .scene import ANY_FACE, SKY, Light, Sun
from .vehicles import car, two_wheeler

_LOW, _HIGH = (-999.0, -999.0, -999.0), (999.0, 999.0, 999.0)  # the sun shines from everywhere


@dataclass(frozen=True)
class Surroundings:
    """What replaces the shell of a room."""

    faces: tuple[Material, ...]
    face_labels: tuple[str, ...]
    lights: tuple[Light, ...]
    sun: Sun | None
    ambient: Rgb


def open_plan(dice: Dice) -> Plan:
    """Ground of 8 to 18 m; what is above or behind it is sky."""
    return Plan(dice.uniform(8, 16), dice.uniform(5, 10), dice.uniform(8, 18))


def _ground(dice: Dice) -> Material:
    if dice.chance(0.4):
        return photo(dice)
    kind = dice.choice(("grass", "asphalt", "paving", "stone"))
    if kind == "grass":
        base = hsv(dice.uniform(0.16, 0.33), dice.uniform(0.3, 0.8), dice.uniform(0.25, 0.7))
        return Material(Texture.FABRIC, base, shade(base, 0.4), 0.3, 0.3, 1.0, phase=dice.uniform(0, 50))
    if kind == "asphalt":
        base = hsv(dice.uniform(0.05, 0.6), dice.uniform(0, 0.1), dice.uniform(0.2, 0.55))
        return Material(Texture.PLAIN, base, shade(base, 0.6), 1.5, 1.0, 1.0, dice.uniform(0, 0.2), 20.0)
    return stone(dice) if kind == "stone" else finishes.floor(dice, "kitchen")


def facade(dice: Dice) -> Material:
    return photo(dice) if dice.chance(0.3) else finishes.wall(dice, "kitchen")


def _sky(dice: Dice, plan: Plan, *, night: bool, ambient: float) -> Material:
    """Bright by day, nearly black at night; land at the horizon or none."""
    hue, value = dice.uniform(0.52, 0.64), dice.uniform(0.6, 1.0)
    above, below = hsv(hue, dice.uniform(0.05, 0.75), value), hsv(hue, dice.uniform(0.0, 0.25), dice.uniform(0.8, 1.0))
    if dice.chance(0.2):  # dusk
        below = hsv(dice.uniform(0.0, 0.1), dice.uniform(0.2, 0.7), 0.95)
    glow = ambient * (dice.uniform(0.02, 0.2) if night else dice.uniform(0.9, 2.2))
    land_m = dice.choice((0.0, dice.uniform(0.5, 2.5)), (0.35, 0.65))
    return Material(
        Texture.SKY, above, below, plan.height, land_m, dice.uniform(0.2, 0.8),
        emission=glow, phase=dice.uniform(0, 50), variant=dice.uniform(0.1, 0.9),
    )  # fmt: skip


def surroundings(dice: Dice, plan: Plan) -> Surroundings:
    night = dice.chance(0.12)
    ambient = dice.uniform(0.8, 1.4)
    blue = dice.uniform(-0.05, 0.2)
    sky = _sky(dice, plan, night=night, ambient=ambient)
    fronts = [facade(dice) if dice.chance(0.25) else None for _ in range(4)]
    walls = [sky if front is None else front for front in fronts]
    labels = [SKY if front is None else "wall" for front in fronts]
    faces = (walls[0], walls[1], _ground(dice), sky, walls[2], walls[3])
    names = (labels[0], labels[1], "floor", SKY, labels[2], labels[3])
    colour = (ambient * (1 - blue), ambient, ambient * (1 + blue))
    sun = None
    if not night and dice.chance(0.65):
        turn, rise = dice.uniform(0, 2 * math.pi), dice.uniform(0.35, 1.3)
        towards = (math.sin(turn) * math.cos(rise), math.sin(rise), math.cos(turn) * math.cos(rise))
        power, warm = ambient * dice.uniform(1.0, 5.0), dice.uniform(0.0, 0.25)
        sun = Sun(towards, (power, power * (1 - warm / 2), power * (1 - warm)), ANY_FACE, _LOW, _HIGH)
    lights: tuple[Light, ...] = ()
    if night:
        colour = (ambient * 0.15, ambient * 0.16, ambient * 0.22)
        power = dice.uniform(6, 30)
        place = (dice.uniform(1, plan.width - 1), dice.uniform(2.5, 4.5), dice.uniform(1, plan.length - 1))
        lights = (Light(place, (0.2, 0, 0), (0, 0, 0.2), (0, 0, 0), (power, power * 0.85, power * 0.6)),)
    return Surroundings(faces, names, lights, sun, colour)


def populate(dice: Dice, plan: Plan) -> None:
    """Large things first, as they find no room later."""
    kind = dice.choice(("park", "street", "place"))
    large: dict[str, Sequence[tuple[Callable[[Dice], Piece], float, float]]] = {
        "park": ((tree, 1.6, 1.6), (tree, 1.6, 1.6), (bush, 1.2, 1.0)),
        "street": ((_any_house, 5.0, 3.5), (car, 4.4, 1.8), (tree, 1.5, 1.5)),
        "place": ((_any_tower, 3.6, 3.6), (_any_house, 5.0, 3.5), (tree, 1.5, 1.5)),
    }
    small: Sequence[tuple[Callable[[Dice], Piece], float, float]] = (
        (person, 0.7, 0.5), (animal, 0.6, 1.0), (two_wheeler, 1.9, 0.7), (bush, 1.2, 1.0), (rock, 0.9, 0.8),
        (flower, 0.4, 0.4),
    )  # fmt: skip
    for _ in range(dice.integer(2, 6)):
        make, wide, deep = dice.choice(large[kind])
        plan.in_the_room(dice, standing(make(dice), wide, deep))
    for _ in range(dice.integer(2, 9)):
        make, wide, deep = dice.choice(small)
        plan.in_the_room(dice, standing(make(dice), wide, deep))


def _any_house(dice: Dice) -> Piece:
    return house(dice, facade(dice))


def _any_tower(dice: Dice) -> Piece:
    return tower(dice, facade(dice))
