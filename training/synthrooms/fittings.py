"""What belongs to the building or hangs on it: doors, windows, curtains, pictures, rugs, lamps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .dice import Dice
from .layout import Plan
from .materials import Material, Texture, fabric, hsv, patterned, plastic, wood
from .pieces import Group, Piece, rotation
from .scene import Light, Sun

_WALL_FACE = (4, 0, 5, 1)  # room face behind wall k


@dataclass(frozen=True)
class Opening:
    """A window as a source of light."""

    light: Light
    wall: int
    along: float
    width: float
    low: float
    high: float


def door(dice: Dice, plan: Plan, wall: int | None = None) -> bool:
    piece = Piece("door")
    width, height = dice.uniform(0.75, 1.0), min(dice.uniform(1.95, 2.12), plan.height - 0.15)
    frame = wood(dice) if dice.chance(0.4) else Material(Texture.PLAIN, hsv(0.1, 0.05, 0.93), hsv(0.1, 0.05, 0.9))
    leaf = frame if dice.chance(0.6) else dice.choice((wood, plastic))(dice)
    leaf = Material(
        Texture.DOOR,
        leaf.color_a,
        leaf.color_b,
        strength=dice.unit(),
        gloss=0.15,
        phase=leaf.phase,
        variant=dice.unit(),
    )
    piece.box((0, height / 2 + 0.04, 0.01), (width + 0.16, height + 0.08, 0.03), frame, casts_shadow=False)
    piece.box((0, height / 2, 0.025), (width, height, 0.03), leaf, casts_shadow=False)
    piece.ball(
        (width * 0.42, 1.0, 0.07),
        (0.03, 0.03, 0.03),
        Material(Texture.PLAIN, hsv(0.1, 0.2, 0.6), hsv(0, 0, 0.5), gloss=0.9),
    )
    spot = plan.hang(dice, piece, width + 0.16, 0.0, height + 0.1, wall=wall)
    if spot:
        plan.keep_clear(spot[0], spot[1], width, 0.8)
    return spot is not None


def window(dice: Dice, plan: Plan, *, night: bool) -> Opening | None:
    """A glazed slab that shows a bright (or dark) outside; curtains beside it half of the time."""
    piece = Piece("window")
    wall = dice.integer(0, 3)
    width = min(dice.uniform(0.7, 2.4), plan.wall_length(wall) - 0.4)
    low = dice.uniform(0.05, 0.2) if dice.chance(0.15) else dice.uniform(0.7, 1.05)
    high = min(dice.uniform(1.9, 2.3), plan.height - 0.12)
    brightness = dice.uniform(0.02, 0.15) if night else dice.log_uniform(1.5, 9.0)
    view = patterned(dice, Texture.WINDOW, emission=brightness)
    frame = Material(Texture.PLAIN, hsv(0.1, 0.04, 0.95), hsv(0.1, 0.04, 0.9)) if dice.chance(0.7) else wood(dice)
    y, tall = (low + high) / 2, high - low
    for side in (-1, 1):
        piece.box((side * width / 2, y, 0.02), (0.07, tall + 0.07, 0.06), frame, casts_shadow=False)
        piece.box((0, y + side * tall / 2, 0.02), (width, 0.07, 0.06), frame, casts_shadow=False)
    piece.box((0, y, 0.005), (width, tall, 0.02), view, casts_shadow=False)
    if dice.chance(0.45):
        cloth = fabric(dice)
        folds = Material(Texture.STRIPES, cloth.color_a, tuple(c * 0.6 for c in cloth.color_a), 0.09, 0.09, 0.7)  # type: ignore[arg-type]
        top = min(high + 0.12, plan.height - 0.03)
        bottom = 0.03 if dice.chance(0.6) else low - 0.15
        for side in (-1, 1):
            part = dice.uniform(0.12, 0.35) * width
            piece.box(
                (side * (width / 2 + 0.12 - part / 2), (top + bottom) / 2, 0.09),
                (part + 0.1, top - bottom, 0.06),
                folds,
            )
        piece.cylinder((0, top, 0.09), 0.015, width + 0.6, frame, turn=rotation(0, 0, math.pi / 2))
    spot = plan.hang(dice, piece, width + 0.1, low, high, wall=wall)
    if spot is None:
        return None
    x, z, yaw = plan.on_wall(wall, spot[1], 0.12)
    c, s = math.cos(yaw), math.sin(yaw)
    power = brightness * width * tall * 1.3
    tint = dice.uniform(-0.12, 0.12)
    light = Light(
        (x, y, z),
        (c * width / 2, 0, -s * width / 2),
        (0, tall / 2, 0),
        (s, 0, c),
        (power * (1 - tint), power, power * (1.06 + tint)),
    )
    return Opening(light, wall, spot[1], width, low, high)


def sun_through(dice: Dice, plan: Plan, opening: Opening) -> Sun:
    """Sunlight that falls through a window, from a random height and side."""
    yaw = opening.wall * math.pi / 2 + math.pi + dice.uniform(-0.9, 0.9)
    rise = dice.uniform(0.25, 0.95)
    towards = (math.sin(yaw) * math.cos(rise), math.sin(rise), math.cos(yaw) * math.cos(rise))
    power = dice.uniform(3.0, 9.0)
    face = _WALL_FACE[opening.wall]
    reach, everywhere = opening.width / 2, 99.0
    along = (opening.along - reach, opening.along + reach)
    x, z = (along, (-everywhere, everywhere)) if opening.wall % 2 == 0 else ((-everywhere, everywhere), along)
    return Sun(
        towards, (power, power * 0.93, power * 0.78), face, (x[0], opening.low, z[0]), (x[1], opening.high, z[1])
    )


def picture(dice: Dice, plan: Plan) -> None:
    piece = Piece("picture")
    width, height = dice.uniform(0.25, 1.1), dice.uniform(0.25, 0.8)
    y = min(dice.uniform(1.4, 1.75), plan.height - height / 2 - 0.1)
    frame = dice.choice((wood, plastic))(dice)
    border = dice.uniform(0.0, 0.1)
    piece.box((0, y, 0.012), (width + border, height + border, 0.024), frame, casts_shadow=False)
    piece.box((0, y, 0.022), (width, height, 0.012), patterned(dice, Texture.PICTURE), casts_shadow=False)
    plan.hang(dice, piece, width + border, y - height / 2 - border, y + height / 2 + border)


def rug(dice: Dice, plan: Plan, x: float, z: float) -> None:
    """A flat rug around a point, cut to the room; round ones too."""
    piece = Piece("rug")
    half_x = min(dice.uniform(0.5, 1.5), x - 0.05, plan.width - x - 0.05)
    half_z = min(dice.uniform(0.5, 1.2), z - 0.05, plan.length - z - 0.05)
    if min(half_x, half_z) < 0.3:
        return
    cover = patterned(dice, Texture.RUG) if dice.chance(0.7) else fabric(dice)
    if dice.chance(0.2):
        piece.cylinder((0, 0.006, 0), min(half_x, half_z), 0.012, cover)
    else:
        piece.box((0, 0.006, 0), (2 * half_x, 0.012, 2 * half_z), cover, casts_shadow=False)
    plan.pieces.append(piece.moved(x, 0, z))


def ceiling_lamp(dice: Dice, plan: Plan, kind: str, warmth: float, power: float) -> list[Light]:
    """A hanging shade, a flush dome, or (offices) panels set in the ceiling; and the light each gives."""
    color = (power * (1 + warmth), power, power * (1 - warmth))
    glow = Material(
        Texture.PLAIN,
        (1.0, 1.0 - warmth * 0.4, 1.0 - warmth),
        (1, 1, 1),
        strength=0.0,
        emission=dice.uniform(2, 6) if power else 0.0,
    )
    piece, x, z = Piece("lamp"), plan.width / 2 + dice.uniform(-0.4, 0.4), plan.length / 2 + dice.uniform(-0.6, 0.6)
    if kind == "panels":
        lights = []
        for step in range(max(int(plan.length / 2.2), 1)):
            z = (step + 0.5) * plan.length / max(int(plan.length / 2.2), 1)
            piece.box((x, plan.height - 0.01, z), (0.6, 0.04, dice.choice((0.6, 1.2))), glow, casts_shadow=False)
            share = tuple(channel / 1.5 for channel in color)
            lights.append(Light((x, plan.height - 0.08, z), (0.3, 0, 0), (0, 0, 0.4), (0, -1, 0), share))  # type: ignore[arg-type]
        plan.pieces.append(piece)
        return lights
    if kind == "dome":
        radius = dice.uniform(0.15, 0.3)
        piece.ball((x, plan.height, z), (radius, radius * 0.45, radius), glow)
        y = plan.height - radius * 0.5 - 0.06
    else:
        drop, radius = dice.uniform(0.4, 0.9), dice.uniform(0.13, 0.28)
        piece.cylinder((x, plan.height - drop / 2, z), 0.008, drop, plastic(dice))
        shade = glow if dice.chance(0.5) else dice.choice((fabric, plastic))(dice)
        if dice.chance(0.4):
            piece.ball((x, plan.height - drop, z), (radius, radius, radius), shade)
        else:
            piece.cylinder((x, plan.height - drop, z), radius, radius * 1.1, shade, taper=dice.uniform(-0.6, -0.1))
        y = plan.height - drop - radius * 1.2
    plan.pieces.append(piece)
    return [Light((x, y, z), (0.12, 0, 0), (0, 0, 0.12), (0, 0, 0), color)]


def wall_bits(dice: Dice, plan: Plan) -> None:
    """Sockets, switches, radiators: small true-to-life distractions."""
    for _ in range(dice.integer(0, 2)):
        piece = Piece("object")
        y = dice.choice((0.3, 1.1))
        white = Material(Texture.PLAIN, hsv(0.1, 0.05, 0.95), hsv(0.1, 0.05, 0.9), gloss=0.3)
        piece.box((0, y, 0.005), (0.09, 0.09, 0.012), white, casts_shadow=False)
        plan.hang(dice, piece, 0.09, y - 0.05, y + 0.05)
    if dice.chance(0.3):
        width = dice.uniform(0.6, 1.4)
        body = Material(Texture.PANELS, hsv(0.1, 0.04, 0.95), hsv(0.1, 0.04, 0.8), 0.05, 0.05, 1.0, 0.2)
        piece = Piece("object")
        piece.box((0, 0.4, -0.01), (width, 0.55, 0.08), body)
        plan.against_wall(dice, Group(width, 0.14, 0.7, [piece]))
