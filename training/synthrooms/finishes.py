"""Finishes of the room itself: its floor, walls and ceiling, by room type."""

from __future__ import annotations

from dataclasses import replace

from .dice import Dice
from .materials import Material, Texture, hsv, natural_hue, paint, shade, stone, wood


def _tiles(dice: Dice) -> Material:
    base = hsv(
        dice.uniform(0.03, 0.17) if dice.chance(0.7) else dice.unit(), dice.uniform(0, 0.3), dice.uniform(0.4, 0.95)
    )
    size = dice.log_uniform(0.2, 0.8)
    texture = Texture.CHECKER if dice.chance(0.2) else Texture.TILES
    other = shade(base, dice.choice((0.35, 0.6, 1.3)))
    gloss = dice.uniform(0.1, 0.7)
    return Material(
        texture,
        base,
        other,
        size,
        size * dice.choice((1.0, 1.0, 2.0)),
        dice.uniform(0.2, 1),
        gloss,
        60.0,
        phase=dice.uniform(0, 50),
    )


def _carpet(dice: Dice) -> Material:
    base = hsv(natural_hue(dice), dice.uniform(0, 0.35), dice.uniform(0.25, 0.8))
    texture = dice.choice((Texture.FABRIC, Texture.MOTIF, Texture.STRIPES), (0.8, 0.1, 0.1))
    scale = dice.log_uniform(0.05, 0.4)
    return Material(
        texture,
        base,
        shade(base, dice.uniform(0.5, 0.8)),
        scale,
        scale,
        dice.uniform(0.4, 1),
        phase=dice.uniform(0, 50),
    )


def _concrete(dice: Dice) -> Material:
    base = hsv(dice.uniform(0.05, 0.6), dice.uniform(0, 0.08), dice.uniform(0.4, 0.8))
    return Material(Texture.PLAIN, base, shade(base, 0.6), dice.uniform(0.4, 2), 1.0, 1.0, dice.uniform(0, 0.4), 30.0)


def _parquet(dice: Dice) -> Material:
    return wood(dice, plank_m=dice.log_uniform(0.07, 0.24))


_FLOORS = (_parquet, _tiles, _carpet, _concrete)
_FLOOR_WEIGHTS = {
    "bedroom": (0.55, 0.05, 0.38, 0.02),
    "living_room": (0.65, 0.1, 0.2, 0.05),
    "dining_room": (0.65, 0.2, 0.1, 0.05),
    "office": (0.25, 0.1, 0.5, 0.15),
    "kitchen": (0.25, 0.65, 0.0, 0.1),
    "corridor": (0.4, 0.3, 0.2, 0.1),
}


def floor(dice: Dice, room_type: str) -> Material:
    return dice.choice(_FLOORS, _FLOOR_WEIGHTS[room_type])(dice)


def wall(dice: Dice, room_type: str) -> Material:
    """Paint most of the time; wallpaper, brick, boards, tiles and stone otherwise."""
    base = paint(dice, bright=False)
    kind = dice.choice(
        ("paint", "stripes", "motif", "brick", "panels", "tiles", "stone"), (0.6, 0.08, 0.1, 0.08, 0.07, 0.05, 0.02)
    )
    if room_type == "kitchen" and dice.chance(0.35):
        kind = "tiles"
    trim = {"skirting_m": dice.choice((0.0, 0.07, 0.1, 0.14), (0.25, 0.25, 0.3, 0.2))}
    if kind == "paint" and dice.chance(0.12):
        trim["wainscot_m"] = dice.uniform(0.8, 1.3)
    if kind == "brick":
        brick = hsv(dice.uniform(0.01, 0.07), dice.uniform(0.1, 0.6), dice.uniform(0.4, 0.9))
        return replace(
            base,
            texture=Texture.BRICK,
            color_a=brick,
            color_b=hsv(0.1, 0.05, 0.75),
            scale_u_m=0.24,
            scale_v_m=0.08,
            strength=1.0,
        )
    if kind == "tiles":
        size = dice.log_uniform(0.08, 0.3)
        return replace(
            base,
            texture=Texture.TILES,
            color_b=shade(base.color_a, 0.65),
            scale_u_m=size,
            scale_v_m=size,
            gloss=0.5,
            shininess=80.0,
        )
    if kind == "stone":
        return stone(dice)
    scale = dice.log_uniform(0.06, 0.35)
    texture = {"stripes": Texture.STRIPES, "motif": Texture.MOTIF, "panels": Texture.PANELS}.get(kind, Texture.PLAIN)
    pale = shade(base.color_a, dice.uniform(0.65, 0.95)) if dice.chance(0.7) else base.color_b
    return replace(
        base, texture=texture, color_b=pale, scale_u_m=scale, scale_v_m=scale, strength=dice.uniform(0.2, 1.0), **trim
    )


def ceiling(dice: Dice, room_type: str) -> Material:
    white = hsv(dice.uniform(0.05, 0.15), dice.uniform(0, 0.06), dice.uniform(0.82, 0.98))
    if room_type in ("office", "corridor") and dice.chance(0.5):
        return Material(Texture.TILES, white, shade(white, 0.8), 0.6, 0.6, 0.1)
    if dice.chance(0.08):
        return wood(dice, plank_m=0.12)
    return Material(Texture.PLAIN, white, shade(white, 0.9), 1.5, 1.5, dice.uniform(0, 0.4))
