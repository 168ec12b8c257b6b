"""Two-wheelers full of thin parts, and cars. Each function returns one piece standing on its origin, its
broad side towards +z."""

from __future__ import annotations

import math

from .dice import Dice
from .materials import Material, Texture, hsv, metal, photo, plastic
from .pieces import Piece, rotation
from .rods import rod

_RUBBER = Material(Texture.PLAIN, (0.02, 0.02, 0.02), (0.01, 0.01, 0.01), 0.1, strength=0.5, gloss=0.1)
_SIDEWAYS = rotation(0.0, math.pi / 2)  # a cylinder along z: a wheel seen from the side


def _wheel(dice: Dice, piece: Piece, x: float, radius: float, z: float = 0.0, width: float | None = None) -> None:
    width = dice.uniform(0.04, 0.14) if width is None else width
    piece.cylinder((x, radius, z), radius, width, _RUBBER, turn=_SIDEWAYS)
    rim = metal(dice) if dice.chance(0.6) else plastic(dice)
    piece.cylinder((x, radius, z), radius * dice.uniform(0.5, 0.85), width + 0.012, rim, turn=_SIDEWAYS)
    piece.cylinder((x, radius, z), radius * 0.2, width + 0.06, metal(dice), turn=_SIDEWAYS)


def two_wheeler(dice: Dice) -> Piece:
    """A bicycle, a scooter or a motorcycle: wheels, a frame of bars, and more or less stuff between them."""
    piece, radius = Piece("object"), dice.uniform(0.26, 0.36)
    half, heavy = dice.uniform(0.48, 0.75), dice.chance(0.65)
    frame, body = (metal(dice) if dice.chance(0.5) else plastic(dice)), plastic(dice)
    thick = dice.uniform(0.012, 0.03)
    for x in (-half, half):
        _wheel(dice, piece, x, radius, width=None if heavy else 0.04)
    head, saddle = (half * 0.62, radius * 2.6, 0.0), (-half * 0.45, radius * dice.uniform(2.3, 2.9), 0.0)
    low = (-half * 0.05, radius * 0.8, 0.0)
    for side in (-0.05, 0.05):
        rod(piece, (half, radius, side * 1.4), (head[0], head[1], side), thick, metal(dice))
        rod(piece, (-half, radius, side * 1.4), (low[0], low[1], side), thick, frame)
        rod(piece, (-half, radius, side * 1.4), (saddle[0], saddle[1], side * 0.3), thick, frame)
    for a, b in ((head, low), (head, saddle), (low, saddle)):
        rod(piece, a, b, thick * 1.2, frame)
    grip = dice.uniform(0.22, 0.36)
    rod(piece, (head[0] - 0.06, head[1] + 0.12, -grip), (head[0] - 0.06, head[1] + 0.12, grip), 0.014, metal(dice))
    rod(piece, head, (head[0] - 0.06, head[1] + 0.12, 0), 0.02, frame)
    piece.ball((saddle[0], saddle[1] + 0.05, 0), (half * dice.uniform(0.25, 0.6), 0.06, 0.1), plastic(dice))
    if heavy:
        _engine(dice, piece, half, radius, low[0], body)
    return piece


def _engine(dice: Dice, piece: Piece, half: float, radius: float, x: float, body: Material) -> None:
    """Tank, engine, exhaust, lamp, mudguards, and odds and ends."""
    piece.ball((half * 0.12, radius * 2.5, 0), (half * 0.38, 0.12, 0.13), body)
    piece.box((x, radius * 1.25, 0), (half * 0.7, radius * 0.9, 0.26), metal(dice))
    for _ in range(dice.integer(3, 9)):
        centre = (x + dice.uniform(-0.45, 0.45) * half, radius * dice.uniform(0.7, 2.2), dice.uniform(-0.16, 0.16))
        size = dice.log_uniform(0.04, 0.16)
        skin = dice.choice((metal, metal, plastic, photo))(dice)
        if dice.chance(0.4):
            piece.box(centre, (size, size * dice.uniform(0.5, 1.5), size), skin, turn=rotation(dice.uniform(-0.3, 0.3)))
        else:
            turn = rotation(0.0, dice.uniform(-1.6, 1.6), dice.uniform(-1.6, 1.6))
            piece.cylinder(centre, size * 0.5, size * 1.4, skin, turn=turn)
    side = dice.choice((-0.17, 0.17))
    rod(piece, (x, radius * 0.7, side), (-half * 1.25, radius * 0.8, side), 0.045, metal(dice), taper=0.2)
    piece.ball((half * 0.8, radius * 2.5, 0), (0.09, 0.09, 0.09), metal(dice))
    for wheel in (-half, half):
        if dice.chance(0.6):
            piece.ball((wheel, radius * 1.75, 0), (radius * 0.85, radius * 0.38, 0.08), body)


def car(dice: Dice) -> Piece:
    """A car from the side, 3.2 to 4.6 m long."""
    piece, paint = Piece("object"), plastic(dice)
    long, wide, radius = dice.uniform(3.2, 4.6), dice.uniform(1.55, 1.85), dice.uniform(0.28, 0.36)
    glass = Material(Texture.PLAIN, (0.03, 0.04, 0.05), (0.02, 0.02, 0.02), gloss=0.9, shininess=120.0)
    body = dice.uniform(0.5, 0.75)
    piece.box((0, radius + body / 2 - 0.05, 0), (long, body, wide), paint)
    roof, shift = dice.uniform(0.42, 0.62), dice.uniform(-0.3, 0.1) * long / 4
    base = radius + body - 0.05
    piece.box((shift, base + roof / 2, 0), (long * 0.5, roof, wide * 0.92), glass)
    piece.box((shift, base + roof, 0), (long * 0.46, 0.06, wide * 0.94), paint)
    for lean in (-1, 1):
        turn = rotation(0.0, 0.0, lean * 0.7)
        piece.box((shift - lean * long * 0.25, base + roof * 0.45, 0), (0.05, roof * 1.2, wide * 0.9), paint, turn=turn)
    for x in (-0.31 * long, 0.31 * long):
        for z in (-wide / 2, wide / 2):
            _wheel(dice, piece, x, radius, z, 0.2)
    lamp = Material(Texture.PLAIN, hsv(0.1, 0.1, 0.95), (0.8, 0.8, 0.8), gloss=0.8)
    for z in (-wide * 0.36, wide * 0.36):
        piece.ball((long / 2, base - 0.25, z), (0.05, 0.09, 0.14), lamp)
    return piece
