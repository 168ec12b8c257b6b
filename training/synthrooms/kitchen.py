"""Kitchen furniture: a run of counters with wall cupboards, and a refrigerator."""

from __future__ import annotations

from .clutter import TABLEWARE, scatter
from .dice import Dice
from .furniture import Style, cabinet
from .materials import Material, Texture, hsv, plastic, stone, wood
from .pieces import Group, Piece, Surface


def counter(dice: Dice, style: Style, width: float) -> Group:
    """Base cupboards with a worktop, sink or hob, things on it, and wall cupboards above."""
    group = cabinet(dice, style, width, 0.6, 0.86)
    top = dice.choice((stone, wood, plastic))(dice)
    piece = group.pieces[0]
    piece.box((0, 0.88, 0.01), (width, 0.04, 0.64), top)
    steel = Material(Texture.PLAIN, hsv(0.6, 0.03, 0.7), hsv(0.6, 0.03, 0.6), gloss=0.9, shininess=60.0)
    black = Material(Texture.PLAIN, hsv(0, 0, 0.12), hsv(0, 0, 0.12), gloss=0.8, shininess=150.0)
    spot = dice.uniform(-0.25, 0.25) * width
    piece.box((spot, 0.902, 0.02), (0.55, 0.006, 0.42), steel)
    if dice.chance(0.6):
        for x in (-0.13, 0.13):
            for z in (-0.1, 0.1):
                piece.cylinder((spot + x, 0.906, 0.02 + z), 0.08, 0.006, black)
    else:
        piece.cylinder((spot, 1.03, -0.18), 0.015, 0.26, steel)
        piece.box((spot, 1.15, -0.1), (0.025, 0.02, 0.18), steel)
    group.surfaces = [Surface((0, 0.9, -0.05), width * 0.9, 0.4)]
    if dice.chance(0.75):
        upper = cabinet(dice, style, width * dice.uniform(0.6, 1.0), 0.34, dice.uniform(0.55, 0.75), on_feet=False)
        group.pieces += upper.moved(0, dice.uniform(1.4, 1.5), -0.13, 0).pieces
    scatter(dice, group, group.surfaces[0], TABLEWARE, dice.integer(2, 6))
    group.height = 2.15
    return group


def refrigerator(dice: Dice, style: Style) -> Group:
    piece, height = Piece("cabinet"), dice.uniform(1.5, 1.95)
    skin = style.metal if dice.chance(0.5) else plastic(dice)
    split = height * dice.uniform(0.3, 0.65)
    piece.box((0, height / 2, 0), (0.62, height, 0.6), skin)
    for low, high in ((0.05, split), (split, height)):
        piece.box((0, (low + high) / 2, 0.31), (0.61, high - low - 0.012, 0.04), skin)
        piece.box((0.25, (low + high) / 2, 0.35), (0.02, (high - low) * 0.5, 0.03), style.metal)
    return Group(0.64, 0.66, height, [piece])
